"""The learning-rate automation with all of its phases, in every mode in which Lightning trains."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_automations import IntelligentLearningRateScheduler
from lightning_automations.core.decision import Reason
from lightning_automations.core.progress import WINDOW_STEPS
from lightning_automations.probes.deferred import DeferredReadings
from tests.callbacks.helpers import Regression, SaveAt, journal_entries, make_trainer, train_loader, val_loader, weights
from tests.callbacks.phases import GOOD, RATE, STEPS, Manual, fit, held_out
from tests.callbacks.told import done


class Spoiled(Callback):
    """Writes NaN into the weights after one step."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 4 and trainer.current_epoch == 5:
            with torch.no_grad():
                pl_module.layer.weight.fill_(math.nan)


class FasterForOneStep(Callback):
    """Multiplies the rate by 1000 for one step."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.before = math.nan

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.before = trainer.optimizers[0].param_groups[0]["lr"]
            trainer.optimizers[0].param_groups[0]["lr"] = 1000 * self.before

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step == self.step + 1 and math.isfinite(self.before):
            optimizer.param_groups[0]["lr"], self.before = self.before, math.nan


class TwoOptimizers(Manual):
    """One for the weight, one for the bias."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        layer = self.layer
        return [torch.optim.SGD([layer.weight], lr=self.rate), torch.optim.Adam([layer.bias], lr=self.rate)]


# Recovering ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [100, 107, 119])
def test_a_rate_that_was_far_too_high_for_one_step_is_overcome(step: int) -> None:
    """Wherever in a window it comes, the run ends as well as the one that was left alone, within the bounds it has."""
    whole, struck, plain = Regression(rate=RATE), Regression(rate=RATE), Regression(rate=RATE)
    subject = IntelligentLearningRateScheduler()
    fit(whole, IntelligentLearningRateScheduler())
    fit(struck, FasterForOneStep(step), subject)
    fit(plain, FasterForOneStep(step))
    assert 1 <= subject.brain.state.rollbacks <= 2
    assert held_out(struck) < 1.1 * held_out(whole)
    assert held_out(struck) < held_out(plain)


MODES: dict[str, tuple[type[Regression], Any]] = {
    "accumulation": (Regression, lambda: {"accumulate_grad_batches": 2}),
    "manual optimization": (Manual, dict),
    "two optimizers": (TwoOptimizers, lambda: {"max_steps": 2 * STEPS}),
    "bf16-mixed": (Regression, lambda: {"precision": "bf16-mixed"}),
    "bf16-true": (Regression, lambda: {"precision": "bf16-true"}),
    "64-true": (Regression, lambda: {"precision": "64-true"}),
    "16-mixed": (
        Regression,
        lambda: {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0))]},
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_lost_weights_come_back(mode: str) -> None:
    """A run that would have ended with NaN ends well."""
    module, options = MODES[mode]
    subject, struck = IntelligentLearningRateScheduler(), module()
    fit(struck, Spoiled(), subject, **options())
    assert Reason.NON_FINITE in {item.reason for item in subject.adjustments}
    assert subject.brain.state.rollbacks >= 1
    assert held_out(struck) < GOOD


class Lost(Regression):
    """Its loss is no number from one step on."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * (math.nan if self.global_step >= 60 else 1.0)


@pytest.mark.parametrize(("limit", "budget", "rollbacks", "changes"), [(3, None, 3, 4), (10, 2, 2, 2)])
def test_what_cannot_be_saved_is_given_up(
    limit: int, budget: int | None, rollbacks: int, changes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """After so many returns, or so many changes, the run goes on as it would have without, and ends."""
    caplog.set_level("INFO", logger="lightning_automations")
    subject = IntelligentLearningRateScheduler(
        max_rollbacks=limit,
        max_adjustments=budget,
        min_lr_factor=1e-3,
        raise_rate=False,
        anneal_share=0,
        monitor_validation=False,
    )
    trainer, _ = fit(Lost(rate=RATE), subject, max_steps=160)
    assert trainer.global_step == 160
    assert subject.brain.state.rollbacks == rollbacks
    assert [item.reason for item in subject.adjustments] == [Reason.NON_FINITE] * changes
    assert subject.retired is (budget is not None)
    assert sum("will not again (max_rollbacks)" in message for message in caplog.messages) == (budget is None)


def test_bounds_that_keep_it_from_recovering_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A rate that stays 1000 times too high is beyond the usual bounds: the user is told once which one to move."""

    class Faster(FasterForOneStep):
        def on_before_zero_grad(self, *_: Any) -> None:
            """Once written, the rate stays."""

    subject = IntelligentLearningRateScheduler(max_rollbacks=3)
    with caplog.at_level("INFO", logger="lightning_automations"):
        fit(Regression(rate=RATE), Faster(100), subject, max_steps=300)
    assert subject.brain.factor == 0.1
    assert sum("the factor is at min_lr_factor (0.1)" in message for message in caplog.messages) == 1


def test_snapshots_may_stay_on_the_device() -> None:
    """The run is the same bit for bit."""
    ends = []
    for place in ("host", "device"):
        module, subject = Regression(rate=RATE), IntelligentLearningRateScheduler(snapshots=place)
        fit(module, Spoiled(), subject)
        ends.append((done(subject), weights(module)))
    assert ends[0][0] == ends[1][0]
    assert all(map(torch.equal, ends[0][1], ends[1][1]))


class Adversaries(Manual):
    """Two networks that train against each other; the loss of the one rises as the other gets better."""

    def __init__(self) -> None:
        super().__init__()
        self.forger = torch.nn.Linear(2, 4)
        self.judge = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        forges, judges = self.optimizers()
        forged = self.forger(torch.randn(len(batch[0]), 2))
        for_judge = (softplus(-self.judge(batch[0])) + softplus(self.judge(forged.detach()))).mean()
        judges.zero_grad()
        self.manual_backward(for_judge)
        judges.step()
        for_forger = softplus(-self.judge(forged)).mean()
        forges.zero_grad()
        self.manual_backward(for_forger)
        forges.step()
        return for_forger

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(part.parameters(), lr=0.02) for part in (self.forger, self.judge)]


def test_networks_that_train_against_each_other_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Bit for bit the run without it, whatever the losses do, and the user is told why."""
    ends = []
    subject = IntelligentLearningRateScheduler(monitor_validation=False, plateau_patience=40)
    for callbacks in ([], [subject]):
        module = Adversaries()
        torch.manual_seed(0)
        with caplog.at_level("INFO", logger="lightning_automations"):
            fit(module, *callbacks, max_steps=2 * STEPS)
        ends.append(weights(module))
    assert all(map(torch.equal, *ends))
    assert subject.adjustments == []
    assert sum("several optimizers" in message for message in caplog.messages) == 1


def test_the_anneal_is_carried_to_its_end_as_the_last_of_the_budget() -> None:
    """It is one adjustment, whose first step is recorded; the rate that it left half-way would be no one's wish."""
    subject = IntelligentLearningRateScheduler(
        max_adjustments=1, raise_rate=False, find_start=False, plateau_patience=999
    )
    _, rates = fit(Regression(rate=RATE), subject)
    assert [item.reason for item in subject.adjustments] == [Reason.ANNEALING]
    assert not subject.retired
    assert rates[-1] < 0.2 * rates[0]


def test_an_annealed_run_that_goes_on_says_from_which_rate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its factor does not jump back."""
    save = SaveAt(STEPS, tmp_path)
    fit(Regression(rate=RATE), IntelligentLearningRateScheduler(), save)
    trainer = make_trainer([IntelligentLearningRateScheduler()], max_steps=2 * STEPS, max_epochs=-1)
    with caplog.at_level("INFO", logger="lightning_automations"):
        trainer.fit(Regression(rate=RATE), train_loader(), val_loader(), ckpt_path=save.path)
    assert sum("goes on for longer than was planned" in message for message in caplog.messages) == 1


# What it costs and tells ---------------------------------------------------------------------------------------------


def test_nothing_is_read_from_the_device_between_two_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and alignments of ten steps come with one read each, and no number is asked for in a step of its own."""
    reads: list[int] = []
    fetch = DeferredReadings.fetch

    def counted(self: DeferredReadings) -> list[float]:
        reads.extend([trainer.global_step] if self._waiting else [])
        return fetch(self)

    monkeypatch.setattr(DeferredReadings, "fetch", counted)

    class Scalars(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.steps: list[int] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._local_scalar_dense.default:
                self.steps.append(trainer.global_step)
            return func(*args, **(kwargs or {}))

    def asked(*callbacks: Any) -> list[int]:
        nonlocal trainer
        trainer = make_trainer(callbacks, max_steps=100, max_epochs=-1, limit_val_batches=0)
        with Scalars() as scalars:
            trainer.fit(Regression(rate=1e-3), train_loader(batch_size=2, samples=256), val_loader())
        return scalars.steps

    trainer = make_trainer()
    subject = IntelligentLearningRateScheduler(max_lr_factor=100, snapshot_interval_steps=10)
    plain, watched = asked(), asked(subject)
    assert subject.adjustments
    extra = [step for step in set(watched) if watched.count(step) > plain.count(step)]
    assert [step for step in (*extra, *reads) if step % WINDOW_STEPS] == []
    assert max(reads.count(step) for step in reads) <= 2


def test_the_journal_tells_of_every_change(tmp_path: Any) -> None:
    """Each with its reason and its numbers, the return to a snapshot among them."""
    subject = IntelligentLearningRateScheduler()
    fit(Regression(rate=RATE), Spoiled(), subject, logger=CSVLogger(tmp_path))
    (journal,) = tmp_path.rglob("automations.jsonl")
    entries = [entry for entry in journal_entries(journal) if entry["event"] == "adjustment"]
    told = [(entry["step"], entry["reason"], entry["old"], entry["new"]) for entry in entries]
    assert told == [(item.step, item.reason.value, item.old, item.new) for item in subject.adjustments]
    (returned,) = [entry for entry in entries if entry["reason"] == "non_finite"]
    assert returned["applied"] is True
    assert 0 < returned["evidence"]["non_finite_share"] <= 1
    assert entries[-1]["reason"] == "annealing"
