"""The early stopper in real runs: when it judges, what holds it back, what it says."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_automations.callbacks.early_stopping import IntelligentEarlyStopping
from lightning_automations.core.decision import Reason
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.curves import STEPS_PER_EPOCH, Scripted, stopper
from tests.callbacks.helpers import (
    Regression,
    SaveAt,
    journal_entries,
    make_trainer,
    regression_data,
    train_loader,
    val_loader,
)

FLAT = [1.0, 0.5, 0.5]
"""Best in the second epoch: a patience of three epochs ends with the fifth."""


def fit(module: pl.LightningModule, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> pl.Trainer:
    """Train with 16 steps an epoch and a validation after each, 20 epochs unless it is stopped."""
    trainer = make_trainer(callbacks, **{"max_epochs": 20, **options})
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint)
    return trainer


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
    assert automation.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED
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
    reasons = package.callbacks.early_stopping.EarlyStoppingReason
    assert automation.stopping_reason is reasons.PATIENCE_EXHAUSTED


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


def test_an_endless_loader_is_judged_by_steps() -> None:
    """No epoch ever ends."""
    trainer = make_trainer([stopper()], max_steps=500, val_check_interval=10, check_val_every_n_epoch=None)
    trainer.fit(Scripted(FLAT), DataLoader(Endless(), batch_size=4), val_loader())
    assert trainer.global_step == 10 + 10 + 50


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


# What holds it back --------------------------------------------------------------------------------------------------


class Watch(pl.Callback):
    """Notes the steps at whose start ``should_stop`` was raised."""

    def __init__(self) -> None:
        self.raised: list[int] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.should_stop:
            self.raised.append(trainer.global_step)


@pytest.mark.parametrize(
    ("settings", "options", "epochs"),
    [
        pytest.param({"min_epochs": 8}, {}, 8, id="min_epochs"),
        pytest.param({"min_iterations": 7 * 16 + 1}, {}, 8, id="min_iterations"),
        pytest.param({"warmup_iterations": 4 * 16 + 1}, {}, 8, id="warmup_iterations"),
        pytest.param({}, {"min_epochs": 8}, 8, id="the trainer's min_epochs"),
        pytest.param({}, {"min_steps": 7 * 16 + 1}, 8, id="the trainer's min_steps"),
    ],
)
def test_should_stop_is_never_raised_before_the_gates(
    settings: dict[str, Any], options: dict[str, Any], epochs: int
) -> None:
    """Lightning keeps a raised flag until its minimum is reached; ours is not raised before."""
    watch, automation = Watch(), stopper(**settings)
    trainer = fit(Scripted([1.0]), watch, automation, **options)
    assert trainer.global_step == epochs * STEPS_PER_EPOCH
    assert watch.raised == []


def test_a_run_that_improves_again_before_the_gate_goes_on() -> None:
    """Flat for six epochs, then better and better: Lightning's own stopper ends it at min_epochs (#19966)."""
    curve = [1.0] * 6 + [0.9 - 0.05 * index for index in range(14)]
    ours = fit(Scripted(curve), stopper(), min_epochs=8)
    theirs = fit(Scripted(curve), pl.callbacks.EarlyStopping("val/loss", patience=3), min_epochs=8)
    assert (ours.global_step, theirs.global_step) == (20 * STEPS_PER_EPOCH, 8 * STEPS_PER_EPOCH)


def test_a_run_that_it_cannot_stop_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    """The seed's own recommendation: min_epochs 1000."""
    caplog.set_level(logging.INFO)
    fit(Regression(), stopper(min_epochs=1000, min_iterations=5000), max_epochs=2)
    assert (
        "it cannot stop this run early: min_epochs is 1000 and the run has 2 epochs;"
        " min_iterations is 5000 and the run has 32 steps" in caplog.text
    )


def test_a_budget_of_zero_never_stops_and_does_not_retire() -> None:
    """The metric is still followed."""
    automation = stopper(max_adjustments=0)
    trainer = fit(Scripted(FLAT), automation, max_epochs=8)
    assert trainer.global_step == 8 * STEPS_PER_EPOCH
    assert (automation.adjustments, automation.retired) == ([], False)
    assert automation.values()["best"] == 0.5


def test_a_dry_run_says_once_what_it_would_have_done() -> None:
    """The run goes on to its end, and Lightning's attributes tell of no stop."""
    automation = stopper(dry_run=True)
    trainer = fit(Scripted(FLAT), automation, max_epochs=12)
    assert trainer.global_step == 12 * STEPS_PER_EPOCH
    assert [adjustment.step for adjustment in automation.adjustments] == [80]
    assert (automation.stopped_epoch, automation.stopping_reason) == (0, EarlyStoppingReason.NOT_STOPPED)


def test_a_second_fit_may_stop_again() -> None:
    """The budget of one stop is counted per fit, and the wait starts anew after a stop."""
    automation, module = stopper(), Scripted(FLAT)
    trainer = fit(module, automation)
    trainer.fit(module, train_loader(), val_loader())
    assert [adjustment.step for adjustment in automation.adjustments] == [80, 128]
    assert automation.stopped_epoch == 7
    assert not automation.retired


def test_after_a_failure_the_fallback_may_be_the_plain_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """early_stopping: true goes on by patience alone, false lets the run end by itself."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")

    class Breaks(IntelligentEarlyStopping):
        def after_batch(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 20:
                raise ZeroDivisionError("broken on purpose")

    for goes_on, epochs in ((True, 5), (False, 8)):
        made = stopper(fallback={"early_stopping": goes_on})
        automation = Breaks(**{name: getattr(made.settings, name) for name in made._written})
        trainer = fit(Scripted(FLAT), automation, max_epochs=8)
        assert automation.retired
        assert trainer.global_step == epochs * STEPS_PER_EPOCH


# What others do ------------------------------------------------------------------------------------------------------


class Announce(pl.Callback):
    """Tells the stopper of an event at one step, as another automation would."""

    def __init__(self, automation: IntelligentEarlyStopping, at: int, event: Event) -> None:
        self.automation, self.at, self.event = automation, at, event

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            self.automation.receive(trainer, self.event)


@pytest.mark.parametrize(
    ("event", "steps"),
    [
        pytest.param(Event(kind=EventKind.RATE_CHANGED, step=70, ratio=0.5), 70 + 48, id="rate lowered"),
        pytest.param(Event(kind=EventKind.RATE_CHANGED, step=70, ratio=1.5), 32 + 48, id="rate raised"),
        pytest.param(Event(kind=EventKind.BATCH_CHANGED, step=70, ratio=2.0), 70 + 48, id="batch"),
        pytest.param(Event(kind=EventKind.LOSS_WEIGHTS_CHANGED, step=70), 70 + 48, id="loss weights"),
    ],
)
def test_the_wait_starts_anew_after_changes_that_may_help(event: Event, steps: int) -> None:
    """At step 70, before the stop at 80; judged every 16 steps."""
    automation = stopper()
    trainer = fit(Scripted(FLAT), Announce(automation, 70, event), automation)
    assert trainer.global_step == -(-steps // STEPS_PER_EPOCH) * STEPS_PER_EPOCH


def test_after_a_rollback_only_later_validations_count() -> None:
    """The best of step 32 is forgotten with the weights that had it; the validation in which it came is not judged."""

    class RollBack(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 48:
                automation.receive(trainer, Event(kind=EventKind.ROLLED_BACK, step=20))

    automation = stopper()
    fit(Scripted([1.0, 0.5, 0.1, 0.8]), RollBack(), automation, max_epochs=4)
    assert automation.best_score == torch.tensor(0.8)


def test_a_planned_drop_of_the_rate_is_waited_for() -> None:
    """MultiStepLR lowers the rate as the fourth epoch ends: the patience runs from there."""

    class Stepped(Scripted):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.001)
            return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [4])]

    assert fit(Stepped([1.0]), stopper(patience=4 * STEPS_PER_EPOCH)).global_step == (4 + 4) * STEPS_PER_EPOCH


# Resume --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [5, 40, 63, 72])
def test_resumed_from_any_place_it_stops_at_the_same_step(at: int, tmp_path: Any) -> None:
    """Checkpoints in and between epochs; overfitting needs the loss summed up before the checkpoint too."""
    curve = [1.0, 0.5, 0.51, 0.52, 0.6, 0.5]
    whole, save = stopper(), SaveAt(at, tmp_path)
    fit(Scripted(curve), whole, save)
    resumed = stopper()
    fit(Scripted(curve), resumed, checkpoint=save.path)
    assert resumed.adjustments == whole.adjustments
    assert resumed.best_score == whole.best_score


def test_settings_given_now_win_over_the_checkpoint(tmp_path: Any) -> None:
    """A longer patience, and another metric, for which the old best says nothing."""
    save = SaveAt(60, tmp_path)
    fit(Scripted(FLAT), stopper(), save)
    longer = stopper(patience=6 * 16)
    assert fit(Scripted(FLAT), longer, checkpoint=save.path).global_step == 32 + 6 * 16
    assert longer.patience == 6 * 16
    other = stopper(monitor_metric="train/loss")
    fit(Scripted(FLAT), other, checkpoint=save.path, max_epochs=5)
    assert other.monitor == "train/loss"
    assert other.brain.history.best_step is not None
    assert other.brain.history.best_step > 60
