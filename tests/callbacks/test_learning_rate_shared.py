"""IntelligentLearningRateScheduler: resumption, dry run, failure, retirement to its fallback, and two ranks."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from lightning_automations.callbacks.gradient_clipping import AdaptiveGradientClipping
from lightning_automations.callbacks.learning_rate import IntelligentLearningRateScheduler
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.learning_rate import LearningRateBrain
from tests.callbacks.helpers import (
    Regression,
    SaveAt,
    journal_entries,
    make_trainer,
    run_script,
    train_loader,
    val_loader,
    weights,
)
from tests.callbacks.told import RATE, Rates, Told, fit, jump, scheduler
from tests.requirements import resumes_after_last_batch, validates_resumed_epoch

VALUES = "automation/intelligent_learning_rate_scheduler/"


# What all automations share ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [pytest.param(64, marks=resumes_after_last_batch), 107, 145, 233])
def test_a_resumed_run_makes_the_same_adjustments(stop: int, tmp_path: Path) -> None:
    """Wherever it is stopped, in the middle of a window too, adjustments and rates are those of the whole run."""

    class Scheduled(Told):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=RATE)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.99)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def module() -> Scheduled:
        return Scheduled(lambda step: jump(step) + 0.01 * (step % 7), metrics={"val/loss": lambda step: step % 5})

    whole, save = scheduler(plateau_patience=60), SaveAt(stop, tmp_path)
    rates = fit(module(), whole, save)
    resumed = scheduler(plateau_patience=60)
    rest = fit(module(), resumed, save, checkpoint=save.path)
    assert len(whole.adjustments) >= 3
    assert resumed.adjustments == whole.adjustments
    assert rest == rates[stop:]
    json.dumps(resumed.state_dict(), allow_nan=True)


def test_a_second_fit_of_the_same_trainer_goes_on() -> None:
    """The optimizer is new, the factor is kept."""
    automation, rates = scheduler(), Rates()
    trainer = make_trainer([rates, automation], max_steps=200, max_epochs=-1)
    module = Told(jump)
    trainer.fit(module, train_loader(), val_loader())
    trainer.fit_loop.epoch_loop.max_steps = 250
    trainer.fit(module, train_loader(), val_loader())
    assert rates.seen[200:] == [RATE / 2] * 50


def test_a_dry_run_decides_and_changes_nothing(tmp_path: Path) -> None:
    """The weights are bit-identical to plain Lightning, the journal says what would have been done."""
    plain, watched = Regression(rate=RATE), Regression(rate=RATE)
    automation = scheduler(dry_run=True, plateau_patience=50, fallback={"scheduler_type": "cosine"}, max_adjustments=2)
    fit(plain)
    fit(watched, automation, logger=CSVLogger(tmp_path))
    assert len(automation.adjustments) == 2
    assert automation.retired
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(watched), weights(plain), strict=True))
    (journal,) = tmp_path.rglob("automations.jsonl")
    applied = [entry["applied"] for entry in journal_entries(journal) if entry["event"] == "adjustment"]
    assert applied == [False, False]


def test_without_a_decision_the_run_is_bit_identical_to_plain_lightning() -> None:
    """Factor 1 touches nothing."""
    plain, watched = Regression(rate=0.001), Regression(rate=0.001)
    automation = scheduler()
    assert fit(plain) == fit(watched, automation)
    assert automation.adjustments == []
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(watched), weights(plain), strict=True))


def test_an_error_in_the_brain_retires_it_and_training_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is held where it was, or handed to the fallback."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(LearningRateBrain, "observe", fail)
    automation = scheduler(fallback={"scheduler_type": "exponential", "scheduler_params": {"gamma": 0.5}})
    rates = fit(Told(), automation, max_steps=30)
    assert automation.retired
    assert len(rates) == 30
    assert rates[:14] == pytest.approx([RATE] * 10 + [RATE, RATE / 2, RATE / 4, RATE / 8])


def test_values_are_published_from_the_first_step_on(tmp_path: Path) -> None:
    """Factor, effective rate and smoothed loss, in callback_metrics and in the logger."""
    automation = scheduler()
    first: dict[str, Any] = {}

    class Look(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if not first:
                first.update(trainer.callback_metrics)

    rates = Rates()
    trainer = make_trainer([automation, Look(), rates], max_steps=150, max_epochs=-1, logger=CSVLogger(tmp_path))
    trainer.fit(Told(jump), train_loader(), val_loader())
    names = {VALUES + name for name in ("factor", "learning_rate", "smoothed_loss")}
    assert names <= set(first)
    assert trainer.callback_metrics[VALUES + "learning_rate"] == pytest.approx(RATE / 2)
    assert automation.summary() == "factor 0.5"
    logged = (Path(trainer.log_dir) / "metrics.csv").read_text().splitlines()[0]
    assert all(name in logged for name in names)


def test_it_can_be_copied_and_pickled_after_a_fit() -> None:
    """Nothing of the trainer stays on it."""
    automation = scheduler()
    fit(Told(jump), automation, max_steps=150)
    for twin in (copy.deepcopy(automation), pickle.loads(pickle.dumps(automation))):
        assert twin.adjustments == automation.adjustments
        assert twin.state_dict() == automation.state_dict()


# Retirement ----------------------------------------------------------------------------------------------------------


def test_without_a_fallback_the_factor_is_held() -> None:
    """Once the budget is used up nothing is decided any more, and the user's schedule goes on below the factor."""
    automation = scheduler(plateau_patience=50, max_adjustments=1)
    rates = fit(Told(), automation)
    assert automation.retired
    assert rates == [RATE] * 80 + [RATE / 2] * 220


def test_the_fallback_runs_from_the_current_rate_for_the_steps_that_remain() -> None:
    """Cosine to its lowest rate at the very end, whatever horizon was written; the user's schedule has no effect."""

    class Scheduled(Told):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=RATE)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=100, gamma=0.01)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    fallback = {"scheduler_type": "cosine", "scheduler_params": {"eta_min": 0.001, "T_max": 40000}}
    automation = scheduler(plateau_patience=50, max_adjustments=1, fallback=fallback)
    rates = fit(Scheduled(), automation)
    low, high = 0.001, RATE / 2
    expected = [low + (high - low) * (1 + math.cos(math.pi * step / 220)) / 2 for step in range(220)]
    assert rates[:80] == [RATE] * 80
    assert rates[80:] == pytest.approx(expected)


def test_without_a_budget_the_fallback_holds_from_the_start() -> None:
    """max_adjustments 0 is a run on the fallback alone."""
    automation = scheduler(
        max_adjustments=0, fallback={"scheduler_type": "step", "scheduler_params": {"step_size": 10}}
    )
    rates = fit(Told(), automation, max_steps=25)
    assert rates == pytest.approx([RATE] * 10 + [RATE / 10] * 10 + [RATE / 100] * 5)


@pytest.mark.parametrize("stop", [80, 103, 250])
def test_a_retired_run_goes_on_with_its_fallback_after_a_checkpoint(stop: int, tmp_path: Path) -> None:
    """The rates after the checkpoint are those of the run that was not stopped."""

    def automation() -> IntelligentLearningRateScheduler:
        return scheduler(plateau_patience=50, max_adjustments=1, fallback={"scheduler_type": "cosine"})

    save = SaveAt(stop, tmp_path)
    whole = fit(Told(), automation(), save)
    resumed = automation()
    assert fit(Told(), resumed, save, checkpoint=save.path) == whole[stop:]
    assert resumed.retired


@validates_resumed_epoch
def test_a_plateau_fallback_follows_the_metric_and_goes_on_after_a_checkpoint(tmp_path: Path) -> None:
    """It steps at validations, in the direction of the metric, and what it has seen is in the checkpoint."""
    fallback = {"scheduler_type": "plateau", "scheduler_params": {"patience": 3, "factor": 0.1}}

    def automation() -> IntelligentLearningRateScheduler:
        return scheduler(max_adjustments=0, fallback=fallback, monitor_metric="val/psnr")

    metrics = {"val/psnr": lambda step: float(min(step, 100))}
    save = SaveAt(150, tmp_path)
    whole = fit(Told(metrics=metrics), automation(), save)
    assert whole[:176] == [RATE] * 176
    assert whole[176] == pytest.approx(RATE / 10)
    assert fit(Told(metrics=metrics), automation(), save, checkpoint=save.path) == whole[150:]


def test_another_fallback_in_a_resumed_run_begins_at_the_current_rate(tmp_path: Path) -> None:
    """Settings given now win over those of the checkpoint."""
    save = SaveAt(100, tmp_path)
    first = scheduler(max_adjustments=0, fallback={"scheduler_type": "cosine"})
    whole = fit(Told(), first, save)
    second = scheduler(max_adjustments=0, fallback={"scheduler_type": "constant"})
    rates = fit(Told(), second, save, checkpoint=save.path)
    assert rates == pytest.approx([whole[100]] * 200)


def test_a_wrong_fallback_is_refused_with_all_other_problems() -> None:
    """One error lists what the settings and what torch have against it."""
    with pytest.raises(ConfigError) as caught:
        scheduler(min_lr_factor=-1, fallback={"scheduler_type": "cosin"})
    assert [problem.path for problem in caught.value.problems] == [
        "IntelligentLearningRateScheduler.min_lr_factor",
        "IntelligentLearningRateScheduler.fallback.scheduler_type",
    ]
    for fallback in ({"scheduler_type": 1}, {"scheduler_type": "step", "scheduler_params": [1]}, [1]):
        with pytest.raises(ConfigError, match="fallback"):
            scheduler(fallback=fallback)
    with pytest.raises(ConfigError, match="scheduler_type"):
        scheduler(fallback={"scheduler_type": "cosin"})


# Two ranks -----------------------------------------------------------------------------------------------------------


def test_two_ranks_make_the_same_decisions_from_different_losses(tmp_path: Path) -> None:
    """Only the mean of both ranks' losses diverges, and only one rank sees NaN; both do the same."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    run_script(Path(__file__).with_name("script_learning_rate.py"), str(tmp_path), environment=environment)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert [(item["step"], item["reason"]) for item in ranks[0]["adjustments"]] == [
        (110, "divergence"),
        (220, "non_finite"),
    ]
    assert ranks[0]["rate"] == pytest.approx(RATE / 4)


# With other automations ----------------------------------------------------------------------------------------------


def test_the_rate_is_restored_whatever_automation_starts_first(tmp_path: Path) -> None:
    """An automation that is new in the resumed run knows no rates; those of the checkpoint count."""
    save = SaveAt(150, tmp_path)
    whole = fit(Told(jump), scheduler(), save)
    rest = fit(Told(jump), AdaptiveGradientClipping(), scheduler(), save, checkpoint=save.path)
    assert rest == whole[150:]
