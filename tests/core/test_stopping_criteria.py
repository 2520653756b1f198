"""Overfitting, convergence and a patience that grows: what stops a run, what does not, and how often noise does."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.early_stopping import EarlyStoppingBrain
from lightning_automations.core.stopping_history import Judgement
from lightning_automations.core.stopping_trend import Trend
from tests.core.stopping import INTERVAL, judge, settings

STEPS = 60 * INTERVAL


def stop_of(
    curve: Sequence[float],
    criterion: str,
    losses: Sequence[float | None] | None = None,
    *,
    horizon_steps: int | None = STEPS,
    higher_is_better: bool = False,
) -> tuple[int, Adjustment] | None:
    """Index and verdict of the first stop with one criterion alone."""
    brain = EarlyStoppingBrain(settings(criteria=[criterion]))
    for index, metric in enumerate(curve):
        loss = losses[index] if losses else None
        more = {"train_loss": loss, "horizon_steps": horizon_steps, "higher_is_better": higher_is_better}
        adjustment = judge(brain, index, metric, **more)
        if adjustment is not None:
            return index, adjustment
    return None


def falling(count: int, *, noise: float = 0.0, seed: int = 0) -> list[float]:
    """A training loss that falls all the time."""
    source = random.Random(seed)
    return [2.0 * 0.95**index + noise * source.gauss(0, 1) for index in range(count)]


VALLEY = [1.0, 0.8, 0.6, 0.5, 0.5, *[0.5 + 0.05 * index for index in range(1, 20)]]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_metric_that_rises_while_the_training_loss_falls_is_overfitting(sign: float) -> None:
    """In either direction, with both levels as evidence."""
    curve = [sign * value for value in VALLEY]
    stop = stop_of(curve, "overfitting", falling(len(curve)), higher_is_better=sign < 0)
    assert stop is not None
    index, adjustment = stop
    assert adjustment.reason is Reason.OVERFITTING
    assert 7 <= index <= 11
    assert sign * adjustment.evidence["level_now"] > sign * adjustment.evidence["level_before"]
    assert adjustment.evidence["train_loss_now"] < adjustment.evidence["train_loss_before"]


@pytest.mark.parametrize(
    ("curve", "losses"),
    [
        pytest.param(VALLEY, [1.0] * len(VALLEY), id="the training loss does not fall"),
        pytest.param(VALLEY, [None] * len(VALLEY), id="the training loss is not known"),
        pytest.param(VALLEY, [1.0 + 0.1 * index for index in range(len(VALLEY))], id="the training loss rises, too"),
        pytest.param([*VALLEY[:5], 0.9, 0.5, 0.5, 0.9, 0.5, 0.5, 0.9], falling(12), id="single bad validations"),
        pytest.param([*VALLEY[:5], 0.8, 0.8], falling(7), id="two judgements"),
        pytest.param(
            [0.5, *[0.5 + 0.0001 * index for index in range(20)]], falling(21), id="a rise too small to matter"
        ),
    ],
)
def test_anything_less_is_not_overfitting(curve: list[float], losses: list[float | None]) -> None:
    """A rise that lasts, and a training loss that surely falls meanwhile, are both needed."""
    assert stop_of(curve, "overfitting", losses) is None


@pytest.mark.parametrize(("noise", "share"), [(0.02, 0.03), (0.1, 0.2)])
def test_a_noisy_validation_seldom_hides_an_improvement(noise: float, share: float) -> None:
    """Of 300 runs whose metric improves by 1 % a judgement under this noise, so many are stopped at most."""
    stopped = 0
    for seed in range(300):
        source = random.Random(seed)
        curve = [1.0 - 0.01 * index + noise * source.gauss(0, 1) for index in range(50)]
        stopped += stop_of(curve, "overfitting", falling(50, noise=0.02, seed=seed)) is not None
    assert stopped <= 300 * share


def test_a_curve_that_has_flattened_has_converged() -> None:
    """A loss that halves its distance to the end every three judgements: nothing is left to gain long before it."""
    curve = [0.5 + 2.0 * 0.5 ** (index / 3) for index in range(60)]
    stop = stop_of(curve, "convergence")
    assert stop is not None
    assert stop[1].reason is Reason.CONVERGENCE
    assert stop[0] < 40
    assert curve[stop[0]] - curve[-1] < 0.02 * 2.0
    assert stop[1].evidence["gain_at_most"] < stop[1].evidence["gain_that_matters"]


@pytest.mark.parametrize(
    ("curve", "horizon_steps"),
    [
        pytest.param([2.0 - 0.01 * index for index in range(55)], STEPS, id="it falls all the time"),
        pytest.param([0.5 + 2.0 * 0.5 ** (index / 3) for index in range(60)], None, id="no end is known"),
        pytest.param([1.0] * 60, STEPS, id="nothing was gained that could be compared with"),
        pytest.param(
            [2.0, *[1.0 + (0.3 if index % 2 else -0.3) for index in range(40)]], STEPS, id="too noisy to tell"
        ),
    ],
)
def test_anything_else_has_not_converged(curve: list[float], horizon_steps: int | None) -> None:
    """While the line may still lead to something, or leads nowhere known, the run goes on."""
    assert stop_of(curve, "convergence", horizon_steps=horizon_steps) is None


def test_a_slow_improver_is_not_taken_for_converged() -> None:
    """Of 200 noisy runs that gain a third of their loss evenly to the end, none is stopped before 85 % of it."""
    early = 0
    for seed in range(200):
        source = random.Random(seed)
        stop = stop_of([1.5 - 0.5 * index / 59 + 0.01 * source.gauss(0, 1) for index in range(60)], "convergence")
        early += stop is not None and stop[0] < 51
    assert early == 0


def test_a_drop_of_the_rate_starts_the_projection_anew() -> None:
    """Twelve judgements have to come after it."""
    brain = EarlyStoppingBrain(settings(criteria=["convergence"]))
    curve = [2.0, *[1.0] * 10, *[0.5] * 30]
    stops = [
        index
        for index, metric in enumerate(curve)
        if judge(brain, index, metric, rate=0.1 if index < 10 else 0.01, horizon_steps=STEPS) is not None
    ]
    assert stops[0] == 10 + 12


def test_while_the_rate_is_tried_nothing_is_waited_for() -> None:
    """The clock stands; a run that is lost is stopped all the same."""
    brain = EarlyStoppingBrain(settings())
    assert all(judge(brain, index, 1.0, clock_stands=True, horizon_steps=STEPS) is None for index in range(30))
    assert judge(brain, 30, math.nan, clock_stands=True) is None
    assert judge(brain, 31, math.nan, clock_stands=True) is not None


@pytest.mark.parametrize(("growth", "waited"), [(0.0, 3), (0.5, 8)])
def test_patience_grows_with_the_step_of_the_best(growth: float, waited: int) -> None:
    """A best at the tenth judgement gets five judgements more at a growth of a half."""
    brain = EarlyStoppingBrain(settings(patience_growth=growth, criteria=["plateau"]))
    curve = [*[1.0 - 0.05 * index for index in range(10)], *[1.0] * 30]
    stops = [index for index, metric in enumerate(curve) if judge(brain, index, metric) is not None]
    assert stops[0] == 9 + waited


@given(
    values=st.lists(st.floats(-100, 100), min_size=4, max_size=20),
    losses=st.lists(st.floats(0, 10), min_size=20, max_size=20),
)
def test_the_trend_is_that_of_its_slow_twin(values: list[float], losses: list[float]) -> None:
    """Means of three, medians of differences or mean squares of bends, and the line of the statistics module."""
    trend = Trend()
    for index, value in enumerate(values):
        now = Judgement(step=7 * (index + 1), metric=-value, higher_is_better=True, train_loss=losses[index])
        trend.take_in(now)
    levels = [statistics.fmean(values[max(0, end - 3) : end]) for end in range(1, len(values) + 1)]
    best = min(range(len(levels)), key=levels.__getitem__)
    assert trend.level == pytest.approx(levels[best])
    assert trend.level_step == 7 * (best + 1)
    assert trend.since_level == len(values) - 1 - best
    assert trend.level_loss == pytest.approx(statistics.fmean(losses[max(0, best - 2) : best + 1]))
    steps = [values[index + 1] - values[index] for index in range(len(values) - 1)]
    middle = statistics.median(steps)
    spread = 1.4826 * statistics.median(abs(step - middle) for step in steps)
    bends = [values[index] - 2 * values[index + 1] + values[index + 2] for index in range(len(values) - 2)]
    careful = math.sqrt(statistics.fmean(bend**2 for bend in bends) / 6)
    assert trend.noise == pytest.approx(max(spread / math.sqrt(2), careful) * math.sqrt(2 / 3), abs=1e-9)
    places = [7 * (index + 1) for index in range(len(values))]
    assert trend.slope(len(values))[0] == pytest.approx(statistics.linear_regression(places, values).slope, abs=1e-9)


def test_what_was_judged_after_a_snapshot_is_forgotten() -> None:
    """The best of before holds again, and one of after is gone."""
    trend = Trend()
    for step, metric in enumerate([1.0, 0.9, 0.8, 0.1, 0.1], start=1):
        trend.take_in(Judgement(step=step, metric=metric, higher_is_better=False, train_loss=1.0))
    trend.forget_after(3)
    assert (trend.metrics, trend.level, trend.since_start) == ((1.0, 0.9, 0.8), None, 0)
    trend.forget_after(5)
    trend.take_in(Judgement(step=6, metric=0.7, higher_is_better=False, train_loss=1.0))
    assert (trend.level, trend.since_level) == (0.7, 0)


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_noise_is_seldom_taken_for_overfitting(heavy_tails: bool) -> None:
    """Runs that improve by half a percent a judgement under 10 % noise, while the training loss surely falls."""
    source = random.Random(3)
    stopped = 0
    for _ in range(100):
        brain = EarlyStoppingBrain(settings(criteria=["overfitting"]))
        for index in range(50):
            size = 3.0 if heavy_tails and source.random() < 0.1 else 1.0
            metric = 1.0 - 0.005 * index + 0.1 * size * source.gauss(0, 1)
            loss = 0.97**index + 0.01 * source.gauss(0, 1)
            if judge(brain, index, metric, train_loss=loss) is not None:
                stopped += 1
                break
    assert stopped <= (20 if heavy_tails else 10)
