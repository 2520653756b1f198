"""The start, the raising, the going back and the end of a run, as the brain decides them."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.learning_rate import LearningRateBrain
from lightning_automations.core.learning_rate_settings import LearningRateSettings

POINTS_ON = [0.3, 0.31, 0.29, 0.3, 0.32, 0.28, 0.3, 0.31, 0.3, 0.3]
UNDECIDED = [0.1, -0.1] * 5
NEGATIVE = [-value for value in POINTS_ON]


def brain_of(*, steps: int | None = 1000, fresh: bool = False, **settings: Any) -> LearningRateBrain:
    """A brain at the beginning of a fit."""
    brain = LearningRateBrain(LearningRateSettings(**{"max_lr_factor": 100.0, "min_lr_factor": 0.01, **settings}))
    brain.begin(horizon_steps=steps, is_fresh=fresh)
    return brain


def window(brain: LearningRateBrain, step: int, level: float = 1.0, **readings: Any) -> Adjustment | None:
    """One window of losses around a level."""
    losses = [level * (1 + 0.01 * (-1) ** place * (place % 3)) for place in range(10)]
    mean = sum(losses) / 10
    return brain.observe(step=step, epoch=0, loss=mean, losses=losses, non_finite=0.0, **{"rates": (0.1,), **readings})


def lost(brain: LearningRateBrain, step: int, **readings: Any) -> Adjustment | None:
    """One window without a finite loss."""
    return brain.observe(step=step, epoch=0, losses=[math.nan] * 10, non_finite=1.0, rates=(0.1,), **readings)


# The start -----------------------------------------------------------------------------------------------------------


def test_a_rate_that_explodes_starts_again_at_a_tenth_until_it_works() -> None:
    """And the rate that works is kept, without another word."""
    brain = brain_of(fresh=True)
    first = brain.observe(
        step=10, epoch=0, loss=50.0, losses=[1.0, *[55.0] * 9], non_finite=0.0, rates=(0.1,), can_go_back=True
    )
    assert first is not None
    assert (first.reason, first.new, brain.goes_back) == (Reason.START_NOT_FALLING, 0.1, True)
    assert brain.tries
    assert window(brain, 20, 0.5, can_go_back=True) is None
    assert not brain.tries
    assert brain.is_healthy


def test_a_start_that_does_not_move_comes_back_to_the_given_rate() -> None:
    """A fine-tuning run is flat by nature: one lower rate is tried, and the given one holds."""
    brain = brain_of(fresh=True)
    found = [window(brain, step, can_go_back=True) for step in (10, 20, 30, 40)]
    assert [adjustment and adjustment.reason for adjustment in found] == [
        None,
        Reason.START_NOT_FALLING,
        None,
        Reason.NO_BETTER_RATE,
    ]
    assert brain.goes_back
    assert brain.factor == 1.0
    assert not brain.tries
    assert window(brain, 50, can_go_back=True) is None


@pytest.mark.parametrize("can_go_back", [True, False])
def test_losses_that_are_no_numbers_end_an_attempt_at_once(can_go_back: bool) -> None:
    """With a snapshot from the start, without one the rate is cut."""
    brain = brain_of(fresh=True)
    found = lost(brain, 10, can_go_back=can_go_back)
    assert found is not None
    assert brain.goes_back is can_go_back
    assert found.new == (0.1 if can_go_back else 0.5)


def test_without_a_snapshot_a_start_that_explodes_is_accepted() -> None:
    """There is nothing to start again from."""
    brain = brain_of(fresh=True)
    assert brain.observe(step=10, epoch=0, loss=50.0, losses=[1.0, *[55.0] * 9], rates=(0.1,)) is None
    assert not brain.tries


def test_at_the_lowest_factor_the_start_is_over() -> None:
    """No lower rate can be tried."""
    brain = brain_of(fresh=True, min_lr_factor=1.0)
    assert brain.observe(step=10, epoch=0, loss=50.0, losses=[1.0, *[55.0] * 9], can_go_back=True) is None
    assert not brain.tries


def test_no_phase_that_is_turned_off_acts() -> None:
    """Neither trial nor raise nor anneal."""
    brain = brain_of(fresh=True, find_start=False, raise_rate=False, anneal_share=0.0)
    assert not brain.tries
    found = [window(brain, 10 * place, alignments=POINTS_ON, can_go_back=True) for place in range(1, 100)]
    assert found == [None] * 99
    assert not brain.wants_alignment(0)


# Raising -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alignments", "raised"), [(POINTS_ON, True), (UNDECIDED, False), (NEGATIVE, False), ((), False)]
)
def test_the_factor_is_tripled_while_the_gradient_surely_points_on(alignments: list[float], raised: bool) -> None:
    """And left alone where it does not."""
    brain = brain_of()
    found = window(brain, 10, alignments=alignments)
    assert (found is not None) is raised
    assert brain.factor == (3.0 if raised else 1.0)


def test_a_validation_that_is_not_the_best_forbids_a_raise() -> None:
    """The training loss alone does not know of overfitting."""
    brain = brain_of()
    brain.observe(step=5, epoch=0, metric=1.0)
    brain.observe(step=8, epoch=0, metric=1.1)
    assert window(brain, 10, alignments=POINTS_ON) is None


def test_late_in_a_run_nothing_is_raised_or_read_for_it() -> None:
    """After 60 % of a run of known length a raise does not pay any more."""
    brain = brain_of(steps=100)
    assert brain.wants_alignment(40)
    assert not brain.wants_alignment(61)
    assert window(brain, 70, alignments=POINTS_ON) is None


def test_long_after_the_last_change_the_alignment_is_read_rarely() -> None:
    """One window of two hundred."""
    brain = brain_of(steps=None)
    wanted = [step for step in range(0, 10_000, 10) if brain.wants_alignment(step)]
    assert wanted == [0, 10, 20, 30, 40, 2000, 4000, 6000, 8000]


def test_at_the_highest_factor_it_is_said_once_that_more_was_wanted() -> None:
    """And from then on nothing is read any more."""
    brain = brain_of(max_lr_factor=1.0)
    assert brain.wants_alignment(0)
    assert window(brain, 10, alignments=POINTS_ON) is None
    assert brain.state.wanted_higher
    assert not brain.wants_alignment(10)


def test_a_metric_that_improves_steadily_raises_where_the_loss_is_too_noisy() -> None:
    """Three validations at the same speed, and a loss that says nothing for forty steps."""
    brain = brain_of()
    found = []
    for place in range(1, 5):
        found.append(window(brain, 10 * place, alignments=UNDECIDED))
        brain.observe(step=10 * place, epoch=0, metric=1.0 - 0.01 * place)
    assert [adjustment and adjustment.reason for adjustment in found] == [None, None, None, Reason.STEADY_PROGRESS]
    assert brain.factor == 3.0


def test_two_validations_are_no_steady_improvement() -> None:
    """However noisy the loss is."""
    brain = brain_of()
    for place in range(1, 10):
        brain.observe(step=10 * place, epoch=0, metric=1.0 - 0.1 * min(place, 2))
        assert window(brain, 10 * place, alignments=UNDECIDED) is None


# Going back ----------------------------------------------------------------------------------------------------------


def settled(**settings: Any) -> LearningRateBrain:
    """A brain that has seen a healthy run of 300 steps."""
    brain = brain_of(**settings)
    assert [window(brain, step, can_go_back=True) for step in range(10, 310, 10)] == [None] * 30
    return brain


def test_an_explosion_goes_back_within_one_window_and_the_rate_is_never_reached_again() -> None:
    """The factor is halved, and its limit is below the one that blew up."""
    brain = settled()
    found = window(brain, 310, 100.0, can_go_back=True)
    assert found is not None
    assert (found.reason, found.new, brain.goes_back) == (Reason.DIVERGENCE, 0.5, True)
    for step in range(320, 600, 10):
        window(brain, step, alignments=POINTS_ON, can_go_back=True)
        assert brain.factor <= 0.6


def test_a_divergence_soon_after_a_change_cuts_the_rate_to_a_fifth() -> None:
    """It is far too high."""
    brain = settled()
    assert window(brain, 310, alignments=POINTS_ON, can_go_back=True) is not None
    found = window(brain, 320, 100.0, can_go_back=True)
    assert found is not None
    assert (found.old, found.new) == (3.0, pytest.approx(0.6))


def test_a_loss_that_is_as_high_with_the_weights_of_before_has_only_changed_its_meaning() -> None:
    """All is taken back: weights and factor, and the new level is the usual one."""
    brain = settled()
    window(brain, 310, 100.0, can_go_back=True)
    found = window(brain, 320, 100.0, can_go_back=True)
    assert found is not None
    assert (found.reason, found.new) == (Reason.LOSS_CHANGED, 1.0)
    assert brain.takes_back
    assert not brain.goes_back
    assert [window(brain, step, 100.0, can_go_back=True) for step in range(330, 500, 10)] == [None] * 17


def test_a_rate_that_is_still_too_high_has_not_changed_the_meaning_of_the_loss() -> None:
    """With the weights of before the first losses are low, whatever comes after them."""
    brain = settled()
    window(brain, 310, 100.0, can_go_back=True)
    found = brain.observe(step=320, epoch=0, loss=80.0, losses=[1.0, 2.0, *[100.0] * 8], rates=(0.1,), can_go_back=True)
    assert found is not None
    assert (found.reason, brain.goes_back) == (Reason.DIVERGENCE, True)


def test_it_goes_back_at_most_so_often_and_then_only_cuts() -> None:
    """A run that is lost whatever is done does not go round in circles."""
    brain = settled(max_rollbacks=3)
    back = 0
    for step in range(310, 1000, 10):
        lost(brain, step, can_go_back=True)
        back += brain.goes_back
    assert back == 3


def test_somebody_else_can_give_the_run_up() -> None:
    """As long as it may go back."""
    brain = settled(max_rollbacks=1)
    found = brain.give_up_on(310, 0)
    assert found is not None
    assert brain.goes_back
    assert found.new == 0.5
    assert brain.give_up_on(320, 0) is None


def test_overfitting_lowers_the_factor() -> None:
    """Three validations and most of the patience without a new best, while the loss still falls."""
    brain = brain_of(steps=None, plateau_patience=40)
    found = []
    for place in range(1, 12):
        found.append(window(brain, 10 * place, 2.0 - 0.1 * place))
        found.append(brain.observe(step=10 * place, epoch=0, metric=1.0 if place < 3 else 1.0 + 0.1 * place))
    first = next(adjustment for adjustment in found if adjustment is not None)
    assert (first.reason, first.new) == (Reason.OVERFITTING, pytest.approx(0.3))


# The end -------------------------------------------------------------------------------------------------------------


def test_over_the_last_quarter_the_factor_falls_in_a_straight_line_to_the_lowest() -> None:
    """One adjustment says so, and the factor never rises again."""
    brain = brain_of(steps=400)
    found = {step: window(brain, step) for step in range(10, 410, 10)}
    said = {step: adjustment.reason for step, adjustment in found.items() if adjustment is not None}
    assert said == {300: Reason.ANNEALING}
    assert brain.factor == pytest.approx(0.01)


def test_the_line_is_straight() -> None:
    """Half-way the factor is half-way, as far as windows of ten steps allow."""
    brain = brain_of(steps=400, min_lr_factor=0.1)
    for step in range(10, 350, 10):
        window(brain, step)
    assert brain.factor == pytest.approx(1.0 - 0.9 * 0.45, abs=0.05)


@pytest.mark.parametrize("steps", [None, 400])
def test_a_schedule_that_has_fallen_by_itself_is_not_annealed_on_top(steps: int | None) -> None:
    """Nor is a run of which nobody knows how long it is."""
    brain = brain_of(steps=steps)
    rates = [0.1 if steps is None else 0.1 * (1 - step / 400) for step in range(10, 400, 10)]
    found = [window(brain, 10 * place, rates=(rate,)) for place, rate in enumerate(rates, start=1)]
    assert found == [None] * len(rates)
    assert brain.factor == 1.0


def test_at_the_lowest_factor_nothing_is_said_of_the_end() -> None:
    """There is nothing to lower."""
    brain = brain_of(steps=100, min_lr_factor=1.0)
    assert [window(brain, step) for step in range(10, 110, 10)] == [None] * 10


# What always holds ---------------------------------------------------------------------------------------------------

LOSSES = st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(math.nan), st.floats(1e6, 1e9)), min_size=0, max_size=10)
READINGS = st.lists(
    st.fixed_dictionaries(
        {
            "losses": LOSSES,
            "alignments": st.lists(st.one_of(st.floats(-1, 1), st.just(math.nan)), max_size=10),
            "metric": st.one_of(st.just(math.nan), st.floats(-1e3, 1e3)),
            "can_go_back": st.booleans(),
            "rates": st.sampled_from([(0.1,), (0.1,), (0.05,), (0.2,)]),
        }
    ),
    max_size=60,
)


def play(brain: LearningRateBrain, readings: list[Any], *, start: int) -> list[Any]:
    """What the brain says, and where it stands after each."""
    said = []
    for place, item in enumerate(readings, start=start):
        finite = [loss for loss in item["losses"] if not math.isnan(loss)]
        loss = sum(finite) / len(finite) if finite else math.nan
        share = 1 - len(finite) / len(item["losses"]) if item["losses"] else math.nan
        adjustment = brain.observe(step=10 * (place + 1), epoch=0, loss=loss, non_finite=share, **item)
        said.append((adjustment, brain.factor, brain.goes_back, brain.takes_back, brain.is_healthy))
    return said


@given(readings=READINGS, fresh=st.booleans(), steps=st.sampled_from([None, 100, 400]))
def test_the_factor_stays_within_its_bounds(readings: Any, fresh: bool, steps: int | None) -> None:
    """Whatever comes in; and nothing goes back where there is no snapshot."""
    brain = brain_of(fresh=fresh, steps=steps)
    for item, (_, factor, goes_back, takes_back, _) in zip(readings, play(brain, readings, start=0), strict=True):
        assert 0.01 <= factor <= 100.0
        assert not goes_back or item["can_go_back"]
        assert not (goes_back and takes_back)
    assert brain.state.rollbacks <= 10


@given(readings=READINGS, cut=st.integers(0, 60), fresh=st.booleans())
def test_a_state_round_trip_gives_the_same_future(readings: Any, cut: int, fresh: bool) -> None:
    """Saved as JSON and loaded at any window, in the trial and in the end too."""
    brain, resumed = brain_of(steps=400, fresh=fresh), brain_of(steps=400)
    play(brain, readings[:cut], start=0)
    resumed.load_state_dict(json.loads(json.dumps(brain.state_dict())))
    assert play(resumed, readings[cut:], start=cut) == play(brain, readings[cut:], start=cut)
