"""Losses and schedules of every kind under the learning-rate automation with all of its phases."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_automations import IntelligentLearningRateScheduler
from lightning_automations.core.decision import Reason
from tests.callbacks.helpers import Regression, weights
from tests.callbacks.phases import DIVERGED, GOOD, RATE, STEPS, Manual, fit, held_out
from tests.callbacks.told import done

# Losses --------------------------------------------------------------------------------------------------------------


class Shifted(Regression):
    """Its loss has another zero, and the same gradient."""

    shift = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + self.shift


@pytest.mark.parametrize("shift", [-14.0, -100.0, 100.0])
def test_the_zero_of_the_loss_does_not_matter(shift: float) -> None:
    """A loss that is negative, that begins near zero, or of which hardly a part can fall, is trained as well."""
    module, subject = Shifted(rate=RATE), IntelligentLearningRateScheduler()
    module.shift = shift
    fit(module, subject)
    assert DIVERGED.isdisjoint(item.reason for item in subject.adjustments)
    assert held_out(module) < GOOD


@pytest.mark.parametrize("scale", [0.0, 1.0, -1.0])
def test_a_constant_loss_leaves_the_start_and_its_rate(scale: float) -> None:
    """Without a gradient no rate is better than the given one; having tried others counts as no rollback."""

    class Constant(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return 0.0 * self.loss(batch) + scale

    module, subject = Constant(rate=RATE), IntelligentLearningRateScheduler(anneal_share=0, plateau_patience=10000)
    start = weights(module)
    fit(module, subject, max_steps=100)
    assert all(map(torch.equal, weights(module), start))
    assert subject.brain.factor == 1.0
    assert [item.reason for item in subject.adjustments] == [Reason.START_NOT_FALLING, Reason.NO_BETTER_RATE]
    assert subject.brain.state.rollbacks == 0


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_steps_without_a_loss_are_left_out() -> None:
    """Lightning skips them; the trial waits for losses, and a run that never has any is left alone."""

    class Rare(Regression):
        every = 2

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) if batch_idx % self.every == 0 else None

    module, subject = Rare(rate=RATE), IntelligentLearningRateScheduler()
    fit(module, subject)
    assert DIVERGED.isdisjoint(item.reason for item in subject.adjustments)
    assert subject.brain.state.phase == "annealing"
    assert held_out(module) < GOOD

    class Never(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)

    silent, plain = Never(), Never()
    subject = IntelligentLearningRateScheduler(monitor_validation=False, raise_rate=False)
    fit(silent, subject, max_steps=60)
    fit(plain, max_steps=60)
    assert subject.brain.state.phase == "trial"
    assert all(map(torch.equal, weights(silent), weights(plain)))


# Schedules -----------------------------------------------------------------------------------------------------------


class Scheduled(Regression):
    """With a schedule that is stepped by step."""

    def __init__(self, schedule: Any) -> None:
        super().__init__(rate=RATE)
        self.schedule = schedule

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": self.schedule(optimizer), "interval": "step"}]


def test_a_warm_up_is_not_tried_before_its_end() -> None:
    """Nothing is decided and no rate is changed while the schedule rises; the trial comes then."""

    def warm_up(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=60)

    _, plain = fit(Scheduled(warm_up))
    module, subject = Scheduled(warm_up), IntelligentLearningRateScheduler()
    _, rates = fit(module, subject)
    assert rates[:60] == plain[:60]
    assert all(item.step > 60 for item in subject.adjustments)
    assert subject.brain.state.phase == "annealing"
    assert held_out(module) < GOOD


@pytest.mark.parametrize("falls", [True, False])
def test_only_a_schedule_that_does_not_fall_is_annealed(falls: bool) -> None:
    """A cosine of the user's has come down by itself; a constant rate ends at the lowest factor."""

    def schedule(optimizer: Any) -> Any:
        if falls:
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)

    subject = IntelligentLearningRateScheduler(raise_rate=False, plateau_patience=10000)
    _, plain = fit(Scheduled(schedule))
    _, rates = fit(Scheduled(schedule), subject)
    if falls:
        assert subject.adjustments == []
        assert rates == plain
    else:
        assert done(subject) == [(180, Reason.ANNEALING, 0.1)]
        assert rates[:180] == plain[:180]
        assert all(after <= before for before, after in pairwise(rates))
        assert 0.1 * RATE <= rates[-1] < 0.2 * RATE
