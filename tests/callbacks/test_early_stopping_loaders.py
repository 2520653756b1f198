"""The early stopper with two validation loaders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from lightning_automations.core.errors import ConfigError
from tests.callbacks.curves import FLAT, STEPS_PER_EPOCH, Scripted, stopper
from tests.callbacks.helpers import SaveAt, make_trainer, train_loader, val_loader, weights

NAMES = ["val/loss/dataloader_idx_0", "val/loss/dataloader_idx_1", "val/error_0", "val/error_1"]
"""The last two are logged without the loader's number."""


class OfLoaders(Scripted):
    """One list of values; the loader that is not watched logs what gets better all the time."""

    def __init__(self, values: Sequence[float], loader: int) -> None:
        super().__init__(values)
        self.loader = loader
        self.validated: list[list[torch.Tensor]] = []

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        index = int(self.validations)
        watched = dataloader_idx == self.loader
        value = self.values[min(index, len(self.values) - 1)] if watched else 1.0 - 0.04 * index
        self.log("val/loss", value)
        self.log(f"val/error_{dataloader_idx}", value, add_dataloader_idx=False)
        if watched and not self.trainer.sanity_checking:
            self.validated.append(weights(self))


def fit(module: pl.LightningModule, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> pl.Trainer:
    """Train with two validation loaders, 20 epochs of 16 steps unless it is stopped."""
    trainer = make_trainer(callbacks, **{"max_epochs": 20, **options})
    trainer.fit(module, train_loader(), [val_loader(), val_loader()], ckpt_path=checkpoint)
    return trainer


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "interval"),
    [
        pytest.param({}, STEPS_PER_EPOCH, id="each epoch"),
        pytest.param({"val_check_interval": 4}, 4, id="interval in batches"),
        pytest.param({"val_check_interval": 0.5}, 8, id="interval as a share"),
    ],
)
def test_it_judges_every_validation_of_the_loader_it_watches(
    name: str, options: dict[str, Any], interval: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The best is seen at the second validation, the patience runs from there, and nothing was missed before."""
    automation = stopper(monitor_metric=name)
    trainer = fit(OfLoaders(FLAT, int(name[-1])), automation, **options)
    assert trainer.global_step == 2 * interval + 48
    assert automation.best_score == torch.tensor(0.5)
    assert automation.brain.history.best_step == 2 * interval
    assert automation.wait_count == 48 // interval
    assert "sanity check" not in caplog.text


@pytest.mark.parametrize("loader", [0, 1])
@pytest.mark.parametrize("options", [{}, {"val_check_interval": 4}])
def test_the_best_weights_are_those_of_the_loader_it_watches(loader: int, options: dict[str, Any]) -> None:
    """Those of the third validation, which no other loader has its best in."""
    module = OfLoaders([1.0, 0.8, 0.5, 0.6, 0.7], loader)
    automation = stopper(monitor_metric=NAMES[loader], restore_best=True, patience=5000)
    fit(module, automation, max_epochs=3 if options else 6, **options)
    assert automation.weights_put_back
    assert all(torch.equal(now, then) for now, then in zip(weights(module), module.validated[2], strict=True))
    assert not torch.equal(module.validated[2][0], module.validated[-1][0])


def test_a_resumed_run_stops_at_the_same_step(tmp_path: Any) -> None:
    """The checkpoint falls between two validations of an epoch."""
    whole, save = stopper(monitor_metric=NAMES[1]), SaveAt(38, tmp_path)
    fit(OfLoaders(FLAT, 1), whole, save, val_check_interval=8)
    resumed = stopper(monitor_metric=NAMES[1])
    fit(OfLoaders(FLAT, 1), resumed, checkpoint=save.path, val_check_interval=8)
    assert resumed.adjustments == whole.adjustments
    assert [adjustment.step for adjustment in whole.adjustments] == [2 * 8 + 48]


def test_a_name_without_the_loaders_number_is_an_error_that_names_them() -> None:
    """The training loss comes closer letter by letter, and is not what was meant."""
    with pytest.raises(ConfigError) as caught:
        fit(OfLoaders(FLAT, 0), stopper(), max_epochs=2)
    assert str(caught.value).endswith(f"got 'val/loss'. Did you mean '{NAMES[0]}' or '{NAMES[1]}'?")
