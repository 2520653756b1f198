"""Reading logged metrics and their direction, in a real Trainer."""

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torchmetrics import MeanAbsoluteError, MeanMetric
from torchmetrics.image import PeakSignalNoiseRatio

from lightning_automations.callbacks.metrics import (
    direction_of,
    first_validation_loss,
    fresh_value,
    logged_names,
    not_logged,
    value_at_validation,
)
from lightning_automations.core.errors import ConfigError
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader


class Logging(Regression):
    """Logs torchmetrics objects under names that do not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.closeness = PeakSignalNoiseRatio(data_range=1.0)
        self.remoteness = MeanAbsoluteError()
        self.average = MeanMetric()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx)
        for name in ("closeness", "remoteness"):
            metric = getattr(self, name)
            metric(self.layer(batch[0]), batch[1])
            self.log(f"val/{name}", metric, on_step=True, on_epoch=True)
        self.average(torch.tensor(1.5))
        self.log("val/accuracy", self.average)
        self.log("val/thing", self.average.compute())


class Asking(Callback):
    """Notes what is known at the end of a validation."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.directions: dict[str, str] = {}
        self.values: dict[str, float | None] = {}
        self.loss: str | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.directions = {name: direction_of(trainer, name, "auto") for name in self.names}
            self.values = {name: fresh_value(trainer, name) for name in ("val/thing", "nothing")}
            self.loss = first_validation_loss(trainer)


def _asked(*names: str, loaders: int = 1) -> Asking:
    asking = Asking(*names)
    trainer = make_trainer([asking], max_epochs=1)
    trainer.fit(Logging(), train_loader(), [val_loader() for _ in range(loaders)])
    return asking


def test_a_logged_object_tells_its_direction() -> None:
    """A torchmetrics object's own answer is taken, under every name that it is logged by."""
    asking = _asked("val/closeness", "val/remoteness_epoch")
    assert asking.directions == {"val/closeness": "max", "val/remoteness_epoch": "min"}


def test_an_object_is_found_among_several_loaders() -> None:
    """With two validation loaders the name carries the loader's number."""
    assert _asked("val/closeness/dataloader_idx_1", loaders=2).directions == {"val/closeness/dataloader_idx_1": "max"}


def test_an_object_that_does_not_know_leaves_it_to_the_name() -> None:
    """A running mean has no direction of its own: its name decides."""
    assert _asked("val/accuracy", "val/loss").directions == {"val/accuracy": "max", "val/loss": "min"}


def test_a_direction_that_nobody_knows_is_an_error_that_says_what_to_set() -> None:
    """Nothing is guessed."""
    with pytest.raises(ConfigError) as caught:
        _asked("val/thing")
    assert str(caught.value) == (
        "mode: expected min or max, because the name 'val/thing' does not say which is better, got auto. "
        "Set mode to min if a lower value is better, to max if a higher one is."
    )


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_mode_that_is_set_holds(mode: Any) -> None:
    """A mode that the user wrote is not argued with."""
    assert direction_of(make_trainer(), "val/loss", mode) == mode


def test_values_and_the_first_validation_loss_are_read() -> None:
    """A logged value comes as a number, an unknown name as None; the validation loss is found by its name."""
    asking = _asked()
    assert asking.values == {"val/thing": 1.5, "nothing": None}
    assert asking.loss == "val/loss"


def test_the_error_for_a_missing_metric_lists_what_was_logged() -> None:
    """The message names the setting, what there is, and what comes close; our own values are not in it."""
    trainer = make_trainer()
    trainer.callback_metrics.update({"val/psnr": torch.tensor(1.0), "automation/x/y": torch.tensor(1.0)})
    assert logged_names(trainer) == ["val/psnr"]
    assert str(not_logged(trainer, "val/pnsr", path="A.monitor_metric")) == (
        "A.monitor_metric: expected a logged metric (val/psnr), got 'val/pnsr'. Did you mean 'val/psnr'?"
    )
    trainer.callback_metrics.clear()
    assert str(not_logged(trainer, "loss", path="m")) == (
        "m: expected a logged metric (nothing was logged), got 'loss'."
    )


def test_the_error_for_a_missing_metric_prefers_names_that_begin_with_it() -> None:
    """With several loaders Lightning puts the loader's number behind the name."""
    trainer = make_trainer()
    names = ("train/loss", "val/loss/dataloader_idx_0", "val/loss/dataloader_idx_1")
    trainer.callback_metrics.update(dict.fromkeys(names, torch.tensor(1.0)))
    assert str(not_logged(trainer, "val/loss", path="m")).endswith(
        "Did you mean 'val/loss/dataloader_idx_0' or 'val/loss/dataloader_idx_1'?"
    )


class Reading(Callback):
    """Notes what each validation says of some metrics."""

    def __init__(self, read: Any, *names: str) -> None:
        self.read = read
        self.seen: dict[str, list[float | None]] = {name: [] for name in names}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            for name, values in self.seen.items():
                values.append(self.read(trainer, name))


class EverySecond(Regression):
    """Logs its metrics in every second epoch only, one for each of two loaders and one under a name of its own."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("train/rate", 0.5, on_step=True)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        if self.current_epoch % 2 == 0:
            self.log("val/loss", float(self.current_epoch + dataloader_idx))
            self.log(f"val/own_{dataloader_idx}", float(self.current_epoch), add_dataloader_idx=False)

    def on_validation_epoch_end(self) -> None:
        self.log("val/all", 1.0)


NAMES = ("val/loss/dataloader_idx_0", "val/loss/dataloader_idx_1", "val/own_0", "val/own_1", "val/all", "train/rate")


@pytest.mark.parametrize("read", [fresh_value, value_at_validation])
def test_a_value_is_read_in_the_validation_that_logged_it(read: Any) -> None:
    """Whichever loader it was logged for; ``callback_metrics`` would give it again at the next validation."""
    reading = Reading(read, *NAMES)
    make_trainer([reading], max_epochs=4).fit(EverySecond(), train_loader(), [val_loader(), val_loader()])
    assert reading.seen == {
        "val/loss/dataloader_idx_0": [0.0, None, 2.0, None],
        "val/loss/dataloader_idx_1": [1.0, None, 3.0, None],
        "val/own_0": [0.0, None, 2.0, None],
        "val/own_1": [0.0, None, 2.0, None],
        "val/all": [1.0] * 4,
        "train/rate": [None if read is fresh_value else 0.5] * 4,
    }
