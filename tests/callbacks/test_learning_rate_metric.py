"""Which values of its metric the learning-rate automation counts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.callbacks.helpers import make_trainer, train_loader, val_loader
from tests.callbacks.told import Told, fit, scheduler


class EverySecond(Told):
    """Logs a metric that gets better, at every second validation only."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        if self.current_epoch % 2 == 0:
            self.log("val/loss", 100.0 - self.current_epoch + dataloader_idx)


def test_a_value_is_counted_once() -> None:
    """Lightning shows the value of the validation before where this one has logged none."""
    automation = scheduler(monitor_loss=False, monitor_metric="val/loss")
    fit(EverySecond(), automation, max_epochs=6, max_steps=-1)
    assert automation.brain.progress.state.metrics == (100.0, 98.0, 96.0)
    assert automation.brain.progress.state.validations_without_improvement == 0


@pytest.mark.parametrize("loader", [0, 1])
def test_the_metric_may_be_of_one_of_several_loaders(loader: int) -> None:
    """It carries the loader's number and comes with each validation that logs it."""
    automation = scheduler(monitor_metric=f"val/loss/dataloader_idx_{loader}")
    trainer = make_trainer([automation], max_epochs=4)
    trainer.fit(EverySecond(), train_loader(), [val_loader(), val_loader()])
    assert automation.brain.progress.state.metrics == (100.0 + loader, 98.0 + loader)


def test_a_metric_of_the_training_comes_with_every_validation() -> None:
    """It is logged between the validations: its last value is new."""

    class OfTraining(Told):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("train/loss", float(self.global_step), on_step=True)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("other", 1.0)

    automation = scheduler(monitor_metric="train/loss")
    fit(OfTraining(), automation, max_epochs=3, max_steps=-1)
    assert automation.brain.progress.state.metrics == (15.0, 31.0, 47.0)


def test_a_plateau_fallback_counts_a_value_once() -> None:
    """Every logged value is better: a validation that logs none is no validation without an improvement."""
    fallback = {"scheduler_type": "plateau", "scheduler_params": {"patience": 0, "factor": 0.1}}
    automation = scheduler(max_adjustments=0, fallback=fallback, monitor_metric="val/loss")
    rates = fit(EverySecond(), automation, max_epochs=6, max_steps=-1)
    assert rates == [0.05] * 96
