"""When the validation metric, the schedule and other automations have a say in the learning rate."""

import math
from typing import Any

import pytest

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.learning_rate import LearningRateBrain
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from tests.core.learning_rates import POINTS_ON, brain_of, reasons, watch, window


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


def test_overfitting_lowers_the_factor() -> None:
    """Three validations and most of the patience without a new best, while the loss still falls."""
    brain = brain_of(steps=None, plateau_patience=40)
    found = []
    for place in range(1, 12):
        found.append(window(brain, 10 * place, 2.0 - 0.1 * place))
        found.append(brain.observe(step=10 * place, epoch=0, metric=1.0 if place < 3 else 1.0 + 0.1 * place))
    first = next(adjustment for adjustment in found if adjustment is not None)
    assert (first.reason, first.new) == (Reason.OVERFITTING, pytest.approx(0.3))


# The user's schedule, and changes of meaning -------------------------------------------------------------------------


def test_nothing_is_judged_while_the_schedule_rises() -> None:
    """A loss that jumps or stands still during a warm-up is not held against it; the patience begins after it."""
    brain = LearningRateBrain(LearningRateSettings(plateau_patience=200))
    found = []
    for place in range(1, 120):
        rate = min(place, 60) / 60
        loss = 1.0 if place < 30 else 5.0
        found.append(brain.observe(step=10 * place, epoch=0, loss=loss, rates=(0.3, rate)))
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


def test_a_rate_that_overfitted_is_not_raised_to_again() -> None:
    """However surely the gradient points on."""
    brain = brain_of(steps=None, plateau_patience=40)
    for place in range(1, 9):
        window(brain, 10 * place, 2.0 - 0.1 * place)
        found = brain.observe(step=10 * place, epoch=0, metric=1.0 if place < 3 else 1.0 + 0.1 * place)
        if found is not None or brain.factor < 1.0:
            break
    assert brain.factor == pytest.approx(0.3)
    for place in range(20, 30):
        brain.observe(step=10 * place, epoch=0, metric=0.9 - 0.01 * place)
        window(brain, 10 * place, 0.5, alignments=POINTS_ON)
    assert brain.factor == pytest.approx(0.3)
