"""When the learning rate is lowered: honest simulations of losses."""

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from lightning_automations.core.decision import Reason
from lightning_automations.core.learning_rate import LearningRateBrain
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.progress import WINDOW_STEPS
from tests.core.learning_rates import reasons, watch

Loss = Callable[[int], float]


def windows(loss: Loss, steps: int, noise: float, seed: int, *, spikes: float = 0.0) -> list[float]:
    """Means of ten noisy losses each; some losses are fifty times as high."""
    source = random.Random(seed)

    def one(step: int) -> float:
        spike = 50.0 if source.random() < spikes else 1.0
        return loss(step) * (1 + noise * source.gauss(0, 1)) * spike

    return [sum(one(start + index) for index in range(10)) / 10 for start in range(0, steps, WINDOW_STEPS)]


# Simulations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spikes", [0.0, 0.002])
@pytest.mark.parametrize("noise", [0.03, 0.3])
@pytest.mark.parametrize(
    "loss",
    [lambda step: 2 * math.exp(-step / 2000) + 0.1, lambda step: 3 / math.sqrt(1 + step / 20)],
    ids=["exponential", "power"],
)
def test_a_falling_loss_is_left_alone(loss: Loss, noise: float, spikes: float) -> None:
    """30 runs of 5,000 steps that fall, with noise of up to 30 % a step and rare spikes: not one intervention."""
    runs = [watch(windows(loss, 5000, noise, seed, spikes=spikes)) for seed in range(30)]
    assert sum(bool(run) for run in runs) == 0


@pytest.mark.parametrize("spikes", [0.0, 0.002])
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.3])
def test_a_flat_loss_never_counts_as_a_divergence(noise: float, spikes: float) -> None:
    """30 runs of 5,000 steps that do not move: 15,000 decisions, no false alarm."""
    runs = [watch(windows(lambda _: 1.0, 5000, noise, seed, spikes=spikes)) for seed in range(30)]
    assert [reason for run in runs for reason in reasons(run) if reason is not Reason.PLATEAU] == []


@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_a_plateau_is_lowered_after_about_the_patience(noise: float) -> None:
    """A loss that stops falling at step 1,000 is lowered between one and three patiences later, in every run."""

    def loss(step: int) -> float:
        return 2.0 - min(step, 1000) / 1000

    first = [watch(windows(loss, 5000, noise, seed))[0] for seed in range(30)]
    assert {adjustment.reason for adjustment in first} == {Reason.PLATEAU}
    assert all(1900 <= adjustment.step <= 4200 for adjustment in first)
    assert sorted(adjustment.step for adjustment in first)[15] <= 2900


@pytest.mark.parametrize(
    ("loss", "delay"),
    [(lambda step: 1.0 if step < 1000 else 3.0, 50), (lambda step: math.exp(max(0, step - 1000) / 100), 120)],
    ids=["jump", "climb"],
)
@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_a_divergence_is_cut_soon(loss: Loss, delay: int, noise: float) -> None:
    """A loss that jumps or climbs after step 1,000 is cut within this many steps, in every run."""
    for seed in range(30):
        first = watch(windows(loss, 1200, noise, seed))[0]
        assert first.reason is Reason.DIVERGENCE
        assert 1000 < first.step <= 1000 + delay


def test_a_divergence_goes_on_being_cut_once_a_cooldown() -> None:
    """A loss that keeps climbing is cut again, 100 steps apart at least, down to the lowest factor."""
    cuts = watch(windows(lambda step: math.exp(max(0, step - 500) / 100), 2000, 0.1, 0))
    assert [cut.new for cut in cuts] == [0.5, 0.25, 0.125, 0.1]
    steps = [cut.step for cut in cuts]
    assert all(after - before >= 100 for before, after in pairwise(steps))


def test_one_bad_window_is_no_divergence() -> None:
    """Neither is a second one: the loss has to stay up."""
    losses = [1.0] * 30 + [100.0, 100.0] + [1.0] * 30
    assert watch(losses) == []


# Losses of every kind ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-5.0, -1.0, 0.0])
def test_negative_losses_are_judged_by_their_absolute_value(offset: float) -> None:
    """A loss that falls below zero improves, and one that rises from there diverges."""
    falling = [offset - 0.001 * index for index in range(400)]
    assert watch(falling, improvement_threshold=1e-5) == []
    rising = [-5.0] * 20 + [-5.0 + 0.2 * index for index in range(10)]
    assert reasons(watch(rising)) == [Reason.DIVERGENCE]


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-12, 1e12])
def test_a_constant_loss_is_a_plateau_at_the_patience(value: float) -> None:
    """Without noise a plateau is seen a patience after the first level, and every patience from there on."""
    found = watch([value] * 250, plateau_patience=400)
    assert reasons(found) == [Reason.PLATEAU] * 4
    assert [adjustment.step for adjustment in found] == [500, 900, 1300, 1700]
    assert [adjustment.new for adjustment in found] == [0.5, 0.25, 0.125, 0.1]


def test_a_divergence_below_the_threshold_is_left_alone() -> None:
    """A rise by 1 % is nothing at the default of 2 %, however sure it is."""
    assert watch([1.0] * 30 + [1.01] * 30) == []
    assert reasons(watch([1.0] * 30 + [1.03] * 30)) == [Reason.DIVERGENCE]
    assert watch([1.0] * 30 + [1.03] * 30, adaptation_threshold=0.05) == []


# Non-finite ----------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_is_cut_at_once_and_once_a_cooldown() -> None:
    """NaN is certain: no patience, but the cut gets its time to work."""
    brain = LearningRateBrain(LearningRateSettings())
    found = [brain.observe(step=step, epoch=2, non_finite=1.0) for step in range(10, 160, 10)]
    cuts = [adjustment for adjustment in found if adjustment is not None]
    assert [(cut.step, cut.reason, cut.old, cut.new) for cut in cuts] == [
        (10, Reason.NON_FINITE, 1.0, 0.5),
        (110, Reason.NON_FINITE, 0.5, 0.25),
    ]
    assert cuts[0].epoch == 2


@pytest.mark.parametrize(
    ("shares", "cut_at"),
    [
        ([0.1, 0.0, 0.1, 0.0, 0.4, 0.0], None),
        ([0.1, 0.1, 0.1, 0.2, 0.2], None),
        ([0.0, 0.5], 20),
        ([0.2, 0.3], 20),
        ([0.4, math.nan, 0.1], 30),
        ([0.3, math.nan, 0.0, 0.3], None),
    ],
)
def test_only_many_losses_that_are_no_numbers_are_a_divergence(shares: list[float], cut_at: int | None) -> None:
    """A quarter of two windows in a row; a validation between them counts as no window."""
    brain = LearningRateBrain(LearningRateSettings())
    found = [brain.observe(step=10 * i, epoch=0, loss=1.0, non_finite=share) for i, share in enumerate(shares, 1)]
    cuts = [(cut.step, cut.reason) for cut in found if cut is not None]
    assert cuts == ([] if cut_at is None else [(cut_at, Reason.NON_FINITE)])


def test_it_stops_at_the_lowest_factor_and_says_so() -> None:
    """The factor never goes below its bound; that the bound holds it back is kept for the user."""
    brain = LearningRateBrain(LearningRateSettings(min_lr_factor=0.4, plateau_patience=100))
    found = watch([1.0] * 40, brain)
    assert [adjustment.new for adjustment in found] == [0.5, 0.4]
    assert brain.state.held_back
    assert not LearningRateBrain(LearningRateSettings()).state.held_back


def test_the_smoothed_loss_is_that_of_the_windows() -> None:
    """None before the first."""
    brain = LearningRateBrain(LearningRateSettings())
    assert math.isnan(brain.smoothed_loss)
    watch([1.0, 2.0], brain)
    assert brain.smoothed_loss == 1.5
