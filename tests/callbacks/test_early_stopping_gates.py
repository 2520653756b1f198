"""The early stopper in real runs: what holds it back, what starts its wait anew, resuming."""

from __future__ import annotations

import logging
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from lightning_automations.callbacks.early_stopping import IntelligentEarlyStopping
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.curves import FLAT, OPEN, STEPS_PER_EPOCH, Scripted, fit, lightning_reason, stopper
from tests.callbacks.helpers import (
    Regression,
    SaveAt,
    journal_entries,
    train_loader,
    val_loader,
)
from tests.requirements import validates_resumed_epoch


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


@pytest.mark.parametrize(("goes_on", "epochs"), [(False, 8), (True, 5)])
def test_a_budget_of_zero_retires_as_training_starts(
    goes_on: bool, epochs: int, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, one entry; the plain rule goes on where the fallback says so, without the other criteria."""
    journal = tmp_path / "journal.jsonl"
    automation = stopper(
        max_adjustments=0,
        stopping_threshold=0.6,
        restore_best=True,
        fallback={"early_stopping": goes_on},
        journal=str(journal),
    )
    module = Scripted(FLAT)
    trainer = fit(module, automation, max_epochs=8)
    assert trainer.global_step == epochs * STEPS_PER_EPOCH
    assert automation.retired
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "IntelligentEarlyStopping retires at step 0: its budget of 0 adjustments is used up (max_adjustments)"
    ]
    events = [(entry["event"], entry.get("step")) for entry in journal_entries(journal)]
    assert events == [
        ("start", 0),
        ("retired", 0),
        *([("note", 0), ("adjustment", 80)] if goes_on else []),
        ("end", trainer.global_step),
    ]
    assert automation.weights_put_back is goes_on
    assert automation.best_weights.step == (32 if goes_on else None)


def test_a_run_that_retired_at_a_budget_of_zero_stays_so_when_resumed(tmp_path: Any) -> None:
    """It goes on by the plain rule, with the patience that had passed."""

    def automation() -> IntelligentEarlyStopping:
        return stopper(max_adjustments=0, fallback={"early_stopping": True})

    whole, save, resumed = automation(), SaveAt(60, tmp_path), automation()
    fit(Scripted(FLAT), whole, save)
    assert fit(Scripted(FLAT), resumed, checkpoint=save.path).global_step == 5 * STEPS_PER_EPOCH
    assert resumed.adjustments == whole.adjustments


def test_the_plain_rule_finds_its_metric_too() -> None:
    """Where none is named, the first validation is judged already."""
    automation = IntelligentEarlyStopping(patience=48, **OPEN, max_adjustments=0, fallback={"early_stopping": True})
    assert fit(Scripted([1.0]), automation).global_step == 4 * STEPS_PER_EPOCH


@pytest.mark.filterwarnings("ignore:.*configure_optimizers. returned .None.")
def test_a_run_without_an_optimizer_is_judged_all_the_same(tmp_path: Any) -> None:
    """There is no learning rate to look at, and nobody fails over it."""

    class NoOptimizer(Scripted):
        def configure_optimizers(self) -> None:
            return None

    automation = stopper(stopping_threshold=0.6)
    trainer = fit(NoOptimizer(FLAT), automation, max_epochs=4)
    assert trainer.current_epoch == 2
    assert not automation.retired
    assert automation.best_score == torch.tensor(0.5)


def test_a_dry_run_says_once_what_it_would_have_done() -> None:
    """The run goes on to its end, and Lightning's attributes tell of no stop."""
    automation = stopper(dry_run=True)
    trainer = fit(Scripted(FLAT), automation, max_epochs=12)
    assert trainer.global_step == 12 * STEPS_PER_EPOCH
    assert [adjustment.step for adjustment in automation.adjustments] == [80]
    told = "would have stopped at step 80 (plateau), 58 % of 192 planned steps would have been saved"
    assert automation.summary().startswith(told)
    assert (automation.stopped_epoch, automation.stopping_reason) == (0, lightning_reason("NOT_STOPPED", before=None))


def test_a_second_fit_may_stop_again() -> None:
    """The budget of one stop is counted per fit, and the wait starts anew after a stop."""
    automation, module = stopper(), Scripted(FLAT)
    trainer = fit(module, automation)
    trainer.should_stop = False  # Lightning before 2.6 leaves it set
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


@validates_resumed_epoch
def test_the_plain_rule_goes_on_after_a_resume(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that had fallen back to patience alone still has it."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    automation, save = stopper(fallback={"early_stopping": True}, stopping_threshold=0.6), SaveAt(20, tmp_path)
    monkeypatch.setattr(automation, "after_batch", lambda *_: 1 // 0)
    fit(Scripted(FLAT), automation, save)
    resumed = stopper(fallback={"early_stopping": True}, stopping_threshold=0.6)
    assert fit(Scripted(FLAT), resumed, checkpoint=save.path).global_step == 5 * STEPS_PER_EPOCH
    assert resumed.retired
    assert resumed.adjustments == automation.adjustments


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


def test_what_was_saved_is_counted_in_the_steps_of_the_batch_that_runs() -> None:
    """Twice the batch from step 64 on: the run of 320 steps would have taken 64 + 256 / 2."""
    automation = stopper()
    fit(Scripted(FLAT), Announce(automation, 64, Event(kind=EventKind.BATCH_CHANGED, step=64, ratio=2.0)), automation)
    assert "of 192 planned steps (320 before the batch grew) saved" in automation.summary()


def test_after_a_rollback_only_later_validations_count() -> None:
    """The best of step 32 is forgotten with the weights that had it; the validation in which it came is not judged."""

    class RollBack(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 48:
                automation.receive(trainer, Event(kind=EventKind.ROLLED_BACK, step=20))

    automation = stopper()
    fit(Scripted([1.0, 0.5, 0.1, 0.8]), RollBack(), automation, max_epochs=4)
    assert automation.best_score == torch.tensor(0.8)


class Stepped(Scripted):
    """Lowers the rate to a tenth as the fourth epoch ends."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.001)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, [4])]


@pytest.mark.parametrize("patience", [1, 4])
def test_a_planned_drop_of_the_rate_is_waited_for(patience: int) -> None:
    """A patience that would end before the drop and one that would not: both run from the drop on."""
    trainer = fit(Stepped([1.0]), stopper(patience=patience * STEPS_PER_EPOCH))
    assert trainer.global_step == (4 + patience) * STEPS_PER_EPOCH


@validates_resumed_epoch
@pytest.mark.parametrize("at", [20, 50, 60, 66])
def test_a_run_resumed_around_a_planned_drop_waits_as_long(at: int, tmp_path: Any) -> None:
    """Saved long before it, in the epoch before it, and after it."""
    save, resumed = SaveAt(at, tmp_path), stopper(patience=STEPS_PER_EPOCH)
    fit(Stepped([1.0]), stopper(patience=STEPS_PER_EPOCH), save)
    assert fit(Stepped([1.0]), resumed, checkpoint=save.path).global_step == 5 * STEPS_PER_EPOCH


# Resume --------------------------------------------------------------------------------------------------------------


@validates_resumed_epoch
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
