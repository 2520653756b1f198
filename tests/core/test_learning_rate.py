"""When the learning rate is lowered: honest simulations of losses, and what always holds."""

import json
import math
import random
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.learning_rate import LearningRateBrain
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.progress import WINDOW_STEPS

Loss = Callable[[int], float]


def windows(loss: Loss, steps: int, noise: float, seed: int, *, spikes: float = 0.0) -> list[float]:
    """Means of ten noisy losses each; some losses are fifty times as high."""
    source = random.Random(seed)

    def one(step: int) -> float:
        spike = 50.0 if source.random() < spikes else 1.0
        return loss(step) * (1 + noise * source.gauss(0, 1)) * spike

    return [sum(one(start + index) for index in range(10)) / 10 for start in range(0, steps, WINDOW_STEPS)]


def watch(losses: Iterable[float], brain: LearningRateBrain | None = None, **settings: Any) -> list[Adjustment]:
    """What the brain does with one loss per window."""
    brain = brain or LearningRateBrain(LearningRateSettings(**settings))
    found = [brain.observe(step=WINDOW_STEPS * (i + 1), epoch=0, loss=loss) for i, loss in enumerate(losses)]
    return [adjustment for adjustment in found if adjustment is not None]


def reasons(adjustments: Iterable[Adjustment]) -> list[Reason]:
    """Why each of them was made."""
    return [adjustment.reason for adjustment in adjustments]


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


# Validation ----------------------------------------------------------------------------------------------------------


def validate(
    values: list[float], *, every: int, mode: Any = "min", loss: float = math.nan, **settings: Any
) -> list[Adjustment]:
    """A validation every so many steps beside a constant loss, or beside none."""
    brain = LearningRateBrain(LearningRateSettings(**settings))
    found = []
    for step in range(10, every * len(values) + 1, 10):
        found.append(brain.observe(step=step, epoch=0, loss=loss, mode=mode))
        if step % every == 0:
            found.append(brain.observe(step=step, epoch=0, metric=values[step // every - 1], mode=mode))
    return [adjustment for adjustment in found if adjustment is not None]


@pytest.mark.parametrize(("mode", "sign"), [("min", -1.0), ("max", 1.0)])
def test_a_metric_that_improves_keeps_the_rate(mode: Any, sign: float) -> None:
    """While the metric gets better in its direction, a flat training loss is no plateau; when it stops, it is one."""
    improving = [10 + sign * index for index in range(8)]
    assert validate(improving, every=100, mode=mode, loss=1.0, plateau_patience=200) == []
    found = validate(improving + [improving[-1]] * 3, every=100, mode=mode, loss=1.0, plateau_patience=200)
    assert reasons(found) == [Reason.PLATEAU]
    assert found[0].step == 1000
    assert found[0].evidence["best_metric"] == improving[-1]


def test_without_a_validation_since_the_last_best_there_is_no_plateau() -> None:
    """A patience that ends between two validations waits for the next one."""
    found = validate([1.0, 1.0], every=500, loss=1.0, plateau_patience=300)
    assert [adjustment.step for adjustment in found] == [370, 1000]


def test_the_metric_alone_needs_two_validations_without_improvement() -> None:
    """However far apart validations are, one that is not better is no plateau."""
    found = validate([1.0, 1.0, 1.0, 1.0], every=500, plateau_patience=100)
    assert [adjustment.step for adjustment in found] == [1500]


def test_evidence_has_the_sign_of_the_metric() -> None:
    """A metric that is better when it is higher is shown as it was logged."""
    (found,) = validate([-3.0, -3.0, -3.0], every=500, mode="max", plateau_patience=100)
    assert found.evidence == {"steps_without_improvement": 1000.0, "metric": -3.0, "best_metric": -3.0}


# The user's schedule, and changes of meaning -------------------------------------------------------------------------


def test_nothing_is_judged_while_the_schedule_rises() -> None:
    """A loss that jumps or stands still during a warm-up is not held against it; the patience begins after it."""
    brain = LearningRateBrain(LearningRateSettings(plateau_patience=200))
    found = []
    for window in range(1, 120):
        rate = min(window, 60) / 60
        loss = 1.0 if window < 30 else 5.0
        found.append(brain.observe(step=10 * window, epoch=0, loss=loss, rates=(0.3, rate)))
    cuts = [adjustment for adjustment in found if adjustment is not None]
    assert [(cut.step, cut.reason) for cut in cuts] == [(850, Reason.PLATEAU), (1050, Reason.PLATEAU)]


def test_a_loss_that_is_no_number_is_cut_during_a_warm_up_too() -> None:
    """Certainty does not wait."""
    brain = LearningRateBrain(LearningRateSettings())
    brain.observe(step=10, epoch=0, loss=1.0, rates=(0.1,))
    cut = brain.observe(step=20, epoch=0, non_finite=1.0, rates=(0.2,))
    assert cut is not None
    assert cut.reason is Reason.NON_FINITE


def test_a_loss_that_changes_its_meaning_is_no_divergence() -> None:
    """After a change of batch, loss weights or weights, baselines start anew."""
    brain = LearningRateBrain(LearningRateSettings())
    assert watch([1.0] * 30, brain) == []
    brain.start_anew(300)
    found = [brain.observe(step=300 + 10 * i, epoch=0, loss=9.0) for i in range(1, 100)]
    assert found == [None] * 99
    assert brain.progress.state.best_loss == pytest.approx(9.0)


# What always holds ---------------------------------------------------------------------------------------------------

READINGS = st.lists(
    st.fixed_dictionaries(
        {
            "loss": st.one_of(st.just(math.nan), st.floats(-1e6, 1e6)),
            "non_finite": st.one_of(st.just(math.nan), st.floats(0, 1)),
            "metric": st.one_of(st.just(math.nan), st.floats(-1e6, 1e6)),
            "rates": st.sampled_from([(), (0.1,), (0.2,), (0.1, 0.3)]),
        }
    ),
    max_size=80,
)
SETTINGS = st.builds(
    LearningRateSettings,
    plateau_patience=st.integers(1, 200),
    min_lr_factor=st.floats(1e-3, 1.0),
    adaptation_threshold=st.floats(1e-3, 1.0),
)


def future(brain: LearningRateBrain, readings: list[Any], *, start: int) -> list[Adjustment | None]:
    """What the brain says to these readings."""
    return [brain.observe(step=10 * (start + i + 1), epoch=0, **item) for i, item in enumerate(readings)]


@given(settings=SETTINGS, readings=READINGS)
def test_the_factor_stays_within_its_bounds_and_is_never_raised(settings: LearningRateSettings, readings: Any) -> None:
    """Whatever comes in, every adjustment lowers the factor, to its lowest bound at most."""
    brain = LearningRateBrain(settings)
    factor = 1.0
    for adjustment in future(brain, readings, start=0):
        if adjustment is not None:
            assert adjustment.old == factor
            assert settings.min_lr_factor <= adjustment.new < factor
            factor = adjustment.new
    assert brain.factor == factor


@given(settings=SETTINGS, readings=READINGS, cut=st.integers(0, 80))
def test_a_state_round_trip_at_any_step_gives_the_same_future(
    settings: LearningRateSettings, readings: Any, cut: int
) -> None:
    """A brain that was saved as JSON and loaded decides as the one that went on."""
    brain, resumed = LearningRateBrain(settings), LearningRateBrain(settings)
    future(brain, readings[:cut], start=0)
    resumed.load_state_dict(json.loads(json.dumps(brain.state_dict())))
    rest = readings[cut:]
    assert future(resumed, rest, start=cut) == future(brain, rest, start=cut)


def test_the_state_is_bounded() -> None:
    """A long run does not make it grow."""
    brain = LearningRateBrain(LearningRateSettings())
    for index in range(2000):
        brain.observe(step=10 * index, epoch=0, loss=float(index % 7), metric=float(index % 5), rates=(0.1,))
    assert len(brain.progress.state.windows) <= 100
    assert len(brain.progress.state.metrics) <= 10
    assert len(brain.state.losses) <= 60


def test_bounds_that_are_given_now_win_over_the_saved_factor() -> None:
    """A factor from a run with wider bounds is brought into the bounds of this one."""
    brain = LearningRateBrain(LearningRateSettings(min_lr_factor=0.5))
    state = brain.state_dict()
    brain.load_state_dict({**state, "rate": {**state["rate"], "factor": 0.125}})
    assert brain.factor == 0.5


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"monitor_loss": False, "monitor_validation": False},
            "monitor_loss: expected true where monitor_validation is false, got false. "
            "Turn one of the two on, or the automation off with enabled: false.",
        ),
        (
            {"fallback": {"scheduler_params": {}}},
            "fallback.scheduler_type: expected the type of the fallback's scheduler, cosine for instance, got nothing.",
        ),
        ({"max_lr_factor": 0.5}, "max_lr_factor: expected a number at least 1 and at most 1000000.0, got 0.5 (float)."),
    ],
)
def test_contradictions_are_said(values: dict[str, Any], message: str) -> None:
    """Each wrong setting has its message."""
    with pytest.raises(ConfigError) as caught:
        LearningRateSettings(**values)
    assert str(caught.value) == f"IntelligentLearningRateScheduler.{message}"
