"""The early stopper in real runs: when it judges, what holds it back, what it says."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_automations.core.decision import Reason
from tests.callbacks.curves import FLAT, STEPS_PER_EPOCH, Scripted, fit, lightning_reason, stopper
from tests.callbacks.helpers import (
    Regression,
    journal_entries,
    make_trainer,
    regression_data,
    train_loader,
    val_loader,
)


def test_it_stops_a_flat_run_and_says_why(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Adjustment, journal, log and Lightning's own attributes tell the same story."""
    caplog.set_level(logging.INFO)
    automation = stopper(journal=str(tmp_path / "journal.jsonl"))
    trainer = fit(Scripted(FLAT), automation)
    assert trainer.global_step == 5 * STEPS_PER_EPOCH
    (adjustment,) = automation.adjustments
    assert (adjustment.parameter, adjustment.old, adjustment.new) == ("should_stop", False, True)
    assert (adjustment.step, adjustment.epoch, adjustment.reason) == (80, 4, Reason.PLATEAU)
    assert adjustment.evidence == {"waited_steps": 48, "patience": 48, "metric": 0.5, "best": 0.5, "best_step": 32}
    assert automation.stopped_epoch == 4
    assert automation.stopping_reason is lightning_reason("PATIENCE_EXHAUSTED", before=Reason.PLATEAU)
    assert automation.stopping_reason_message == (
        "step 80: IntelligentEarlyStopping changed should_stop from False to True: no improvement for the length of"
        " the patience (waited_steps 48, patience 48, metric 0.5, best 0.5, best_step 32)"
    )
    assert (automation.best_score, automation.wait_count) == (torch.tensor(0.5), 3)
    assert (automation.monitor, automation.mode, automation.patience) == ("val/loss", "min", 48)
    assert "stopped at step 80 (plateau), 75 % of 320 planned steps saved; best val/loss 0.5 at step 32" in caplog.text
    entries = journal_entries(tmp_path / "journal.jsonl")
    assert [entry["event"] for entry in entries if entry["event"] in ("adjustment", "retired")] == ["adjustment"]
    assert not automation.retired


@pytest.mark.parametrize("package", [pl, pytorch_lightning])
def test_trainers_of_both_packages_find_it_and_give_their_own_reason(package: Any) -> None:
    """``trainer.early_stopping_callback`` is ours, in lightning and in pytorch_lightning."""

    class Module(package.LightningModule):
        loss, training_step = Regression.loss, Regression.training_step
        configure_optimizers = Regression.configure_optimizers

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.rate = torch.nn.Linear(4, 1), 0.001

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/loss", 1.0)

    automation = stopper()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 9}
    trainer = package.Trainer(accelerator="cpu", callbacks=[automation], enable_checkpointing=False, **quiet)
    trainer.fit(Module(), train_loader(), val_loader())
    assert trainer.early_stopping_callback is automation
    assert trainer.global_step == 4 * STEPS_PER_EPOCH
    assert automation.stopping_reason is lightning_reason("PATIENCE_EXHAUSTED", before=Reason.PLATEAU, package=package)


# When it judges ------------------------------------------------------------------------------------------------------


class EpochEnd(Regression):
    """Logs its metric where only callbacks that monitor one can see it."""

    def on_train_epoch_end(self) -> None:
        self.log("score", 1.0)


class FlatInTraining(Regression):
    """Logs a metric of the training epoch that never changes."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("train/error", 1.0, on_step=False, on_epoch=True)
        return self.loss(batch)


class Endless(IterableDataset[Any]):
    """Samples without end."""

    def __iter__(self) -> Any:
        while True:
            yield from regression_data(16)


@pytest.mark.parametrize(
    ("settings", "options", "steps"),
    [
        pytest.param({}, {"val_check_interval": 4}, 4 + 4 + 48, id="four validations per epoch"),
        pytest.param({}, {"val_check_interval": 0.5}, 8 + 8 + 48, id="two validations per epoch"),
        pytest.param({}, {"check_val_every_n_epoch": 2}, 32 + 32 + 64, id="every second epoch"),
        pytest.param({}, {"accumulate_grad_batches": 2}, 8 + 8 + 48, id="accumulation: steps are optimizer steps"),
        pytest.param({}, {"max_epochs": -1, "max_steps": 500}, 16 + 16 + 48, id="max_steps alone"),
        pytest.param(
            {},
            {"max_epochs": -1, "max_steps": 500, "val_check_interval": 10, "check_val_every_n_epoch": None},
            10 + 10 + 50,
            id="validation by steps across epochs",
        ),
        pytest.param({"max_no_improvement": 20}, {}, 16 + 16 + 32, id="hard limit"),
    ],
)
def test_it_judges_at_every_validation(settings: dict[str, Any], options: dict[str, Any], steps: int) -> None:
    """The best is seen at the second validation; the patience of 48 steps runs from there."""
    assert fit(Scripted(FLAT), stopper(**settings), **options).global_step == steps


def test_an_endless_loader_is_judged_by_steps(caplog: pytest.LogCaptureFixture) -> None:
    """No epoch ever ends, and no length of the run is known to measure the saving by."""
    caplog.set_level(logging.INFO)
    automation = stopper(max_no_improvement=48)
    trainer = make_trainer([automation], max_epochs=-1, val_check_interval=10, check_val_every_n_epoch=None)
    trainer.fit(Scripted(FLAT), DataLoader(Endless(), batch_size=4), val_loader())
    assert trainer.global_step == 10 + 10 + 50
    assert "1 adjustment(s); stopped at step 70 (plateau); best val/loss 0.5 at step 20" in caplog.text


def test_verbose_names_every_new_best(caplog: pytest.LogCaptureFixture) -> None:
    """As Lightning's own setting does."""
    caplog.set_level(logging.INFO)
    fit(Scripted([1.0, 0.5, 0.7]), stopper(verbose=True), max_epochs=3)
    bests = [record.getMessage() for record in caplog.records if "new best" in record.getMessage()]
    assert bests == [
        "IntelligentEarlyStopping: new best val/loss 1 at step 16",
        "IntelligentEarlyStopping: new best val/loss 0.5 at step 32",
    ]


def test_without_validation_a_training_metric_is_judged_at_the_end_of_each_epoch() -> None:
    """A run that never validates."""
    trainer = make_trainer([stopper(monitor_metric="train/error")], max_epochs=20, limit_val_batches=0)
    trainer.fit(FlatInTraining(), train_loader(), val_loader())
    assert trainer.global_step == 4 * STEPS_PER_EPOCH


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 4}, {"check_val_every_n_epoch": 3}])
def test_a_training_metric_waits_for_the_end_of_the_epoch(options: dict[str, Any]) -> None:
    """It is no error that a validation did not log it, and each value is judged once."""
    automation = stopper(monitor_metric="train/error")
    assert fit(FlatInTraining(), automation, **options).global_step == 4 * STEPS_PER_EPOCH
    assert automation.wait_count == 3


def test_a_metric_of_the_modules_epoch_end_is_seen() -> None:
    """It exists only after the module's ``on_train_epoch_end``, which other callbacks run before."""
    automation = stopper(monitor_metric="score", mode="max")
    assert fit(EpochEnd(), automation).global_step == 4 * STEPS_PER_EPOCH


def test_a_value_is_judged_once() -> None:
    """A metric that only every second validation logs is not judged again where it is old."""

    class Now(Scripted):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if int(self.validations) % 2 == 0:
                super().validation_step(batch, batch_idx)

    automation = stopper(patience=1000)
    fit(Now([1.0, 1.0]), automation, max_epochs=6)
    assert automation.wait_count == 2


def test_the_sanity_check_and_validate_are_ignored() -> None:
    """What the metric is there enters no history."""
    automation = stopper()
    module = Scripted(FLAT)
    trainer = fit(module, automation, num_sanity_val_steps=2, max_epochs=2)
    before = automation.state_dict()
    trainer.validate(module, val_loader(), verbose=False)
    assert automation.state_dict() == before
    assert automation.wait_count == 0
