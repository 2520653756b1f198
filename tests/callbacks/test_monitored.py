"""Which metric the early stopper watches, and what it says when that is not logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torchmetrics import MeanMetric

from lightning_automations.callbacks.early_stopping import IntelligentEarlyStopping
from lightning_automations.core.errors import ConfigError
from tests.callbacks.curves import OPEN, STEPS_PER_EPOCH, Scripted, stopper
from tests.callbacks.helpers import Regression, journal_entries, make_trainer, train_loader, val_loader


def fit(module: pl.LightningModule, *callbacks: Any, **options: Any) -> pl.Trainer:
    """Train for up to six epochs of 16 steps."""
    trainer = make_trainer(callbacks, **{"max_epochs": 6, **options})
    trainer.fit(module, train_loader(), val_loader())
    return trainer


def unnamed(**settings: Any) -> IntelligentEarlyStopping:
    """A stopper whose user wrote no metric."""
    return IntelligentEarlyStopping(patience=48, **OPEN, **settings)


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 4}])
def test_a_named_metric_that_nobody_logs_is_an_error_after_the_first_validation(options: dict[str, Any]) -> None:
    """The message lists what was logged and the nearest name; no second epoch is trained."""
    trainer = make_trainer([stopper(monitor_metric="val/los")], max_epochs=6, **options)
    with pytest.raises(ConfigError) as caught:
        trainer.fit(Scripted([1.0]), train_loader(), val_loader())
    logged = "train/loss, val/loss" if not options else "val/loss"
    message = str(caught.value)
    assert message.startswith("IntelligentEarlyStopping.monitor_metric: expected a logged metric (")
    assert message.endswith("got 'val/los'. Did you mean 'val/loss'?")
    assert set(message.split("(")[1].split(")")[0].split(", ")) == set(logged.split(", "))
    assert trainer.global_step <= STEPS_PER_EPOCH


def test_the_sanity_check_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    """A metric that is logged later is no error; one of the training can never be logged there."""

    class Late(Scripted):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if not self.trainer.sanity_checking:
                super().validation_step(batch, batch_idx)

    fit(Late([1.0]), stopper(), num_sanity_val_steps=1, max_epochs=2)
    assert "IntelligentEarlyStopping: 'val/loss' was not logged in the sanity check" in caplog.text
    caplog.clear()
    fit(Scripted([1.0]), stopper(), num_sanity_val_steps=1, max_epochs=2)
    fit(Scripted([1.0]), stopper(monitor_metric="train/loss"), num_sanity_val_steps=1, max_epochs=2)
    assert "sanity check" not in caplog.text


def test_without_strict_a_named_metric_is_waited_for(tmp_path: Path) -> None:
    """Said once, and judged from where it appears."""

    class Late(Scripted):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if self.current_epoch >= 2:
                super().validation_step(batch, batch_idx)

    automation = stopper(strict=False, journal=str(tmp_path / "journal.jsonl"))
    fit(Late([1.0]), automation)
    notes = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    assert notes == ["'val/loss' is not logged; it is waited for"]
    assert automation.brain.history.best_step == 48


class Plateau(Scripted):
    """Has a scheduler that watches a metric."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.001)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/quality"}}


@pytest.mark.parametrize(
    ("module", "checkpoint", "monitor", "mode"),
    [
        pytest.param(lambda: Scripted([1.0]), None, "val/loss", "min", id="the only validation loss"),
        pytest.param(lambda: Scripted([1.0], "val/psnr"), None, "val/psnr", "max", id="the default is logged"),
        pytest.param(lambda: Plateau([1.0], "val/quality"), None, "val/quality", "max", id="plateau scheduler"),
        pytest.param(lambda: Regression(0.001), "train/loss", "train/loss", "min", id="checkpoint before loss"),
    ],
)
def test_where_none_is_named_it_finds_one(
    module: Any, checkpoint: str | None, monitor: str, mode: str, tmp_path: Path
) -> None:
    """And stops by it: a flat value ends the run with the fourth epoch."""
    automation = unnamed(journal=str(tmp_path / "journal.jsonl"), min_improvement=1e9, improvement_threshold=1e9)
    saves = [ModelCheckpoint(tmp_path, monitor=checkpoint)] if checkpoint else []
    trainer = fit(module(), automation, *saves, enable_checkpointing=bool(saves))
    assert (automation.monitor, automation.mode) == (monitor, mode)
    assert trainer.global_step == 4 * STEPS_PER_EPOCH
    notes = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    said = f"'val/psnr' is not logged; it watches {monitor!r} (monitor_metric names another)"
    assert notes == ([] if monitor == "val/psnr" else [said])


def test_where_nothing_offers_itself_it_stays_out(tmp_path: Path) -> None:
    """Two validation losses: neither is chosen, the run goes on, and it is said once."""

    class Two(Regression):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log_dict({"val/loss_a": 1.0, "val/loss_b": 1.0})

    automation = unnamed(journal=str(tmp_path / "journal.jsonl"))
    trainer = fit(Two(), automation)
    assert trainer.global_step == 6 * STEPS_PER_EPOCH
    notes = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    assert notes == ["'val/psnr' is not logged and no other metric offers itself; it stays out"]


def test_a_loss_logged_per_step_and_per_epoch_is_one_metric() -> None:
    """Lightning also lists it as ``val/loss_epoch``."""

    class Forked(Regression):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/loss", 1.0, on_step=True, on_epoch=True)

    automation = unnamed()
    assert fit(Forked(), automation).global_step == 4 * STEPS_PER_EPOCH
    assert automation.monitor == "val/loss"


def test_a_name_that_does_not_say_which_way_is_better_is_an_error() -> None:
    """Unless mode or the metric's object says it."""
    module = Scripted([1.0], "val/quality")
    with pytest.raises(ConfigError) as caught:
        fit(module, stopper(monitor_metric="val/quality"))
    assert str(caught.value) == (
        "IntelligentEarlyStopping.mode: expected min or max, because the name 'val/quality' does not say which is"
        " better, got auto. Set mode to min if a lower value is better, to max if a higher one is."
    )
    with pytest.raises(ConfigError):  # a metric that the user named is not left to another's default
        fit(Plateau([1.0], "val/quality"), stopper(monitor_metric="val/quality"))
    automation = stopper(monitor_metric="val/quality", mode="max")
    fit(Scripted([1.0, 2.0], "val/quality"), automation, max_epochs=2)
    assert automation.best_score == torch.tensor(2.0)


def test_the_metrics_object_says_which_way_is_better() -> None:
    """Against what the name suggests."""

    class Higher(MeanMetric):
        higher_is_better = True

    class Object(Regression):
        def __init__(self) -> None:
            super().__init__(0.001)
            self.metric = Higher()

        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            self.metric(torch.tensor(float(self.current_epoch)))
            self.log("val/loss", self.metric)

    automation = stopper()
    fit(Object(), automation)
    assert (automation.mode, automation.best_score) == ("max", torch.tensor(5.0))


def test_a_resumed_run_goes_on_with_the_metric_it_had_found(tmp_path: Path) -> None:
    """The choice is part of the state."""
    first = unnamed()
    fit(Scripted([1.0]), first, max_epochs=2)
    second = unnamed()
    second.load_state_dict(first.state_dict())
    assert (second.monitor, second.mode, second.best_score) == ("val/loss", "min", torch.tensor(1.0))
