"""When the factor is raised, and what forbids it."""

import pytest

from lightning_automations.core.decision import Reason
from tests.core.learning_rates import NEGATIVE, POINTS_ON, UNDECIDED, brain_of, window


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


def test_a_rate_is_raised_again_only_on_new_evidence() -> None:
    """What was read under the old factor is forgotten with it."""
    brain = brain_of()
    assert window(brain, 10, alignments=POINTS_ON) is not None
    assert brain.state.alignments == brain.state.losses == ()
    assert window(brain, 20) is None
    assert window(brain, 30, alignments=POINTS_ON) is not None
    assert brain.factor == 9.0


def test_at_sixty_percent_of_a_run_it_is_raised_for_the_last_time() -> None:
    """One window later it is not."""
    for step, factor in ((600, 3.0), (610, 1.0)):
        brain = brain_of(steps=1000)
        window(brain, step, alignments=POINTS_ON)
        assert brain.factor == factor


@pytest.mark.parametrize(
    ("alignments", "level", "raised"),
    [(UNDECIDED, 0.0, True), ([-0.3, -0.1] * 5, 0.0, False), (UNDECIDED, 0.05, False), ((), 0.0, False)],
)
def test_a_steady_metric_raises_only_where_loss_and_gradient_are_undecided(
    alignments: list[float], level: float, raised: bool
) -> None:
    """A gradient that surely points back, a loss that surely falls, or no gradient at all say no."""
    brain = brain_of()
    found = []
    for place in range(1, 9):
        found.append(window(brain, 10 * place, 1.0 - level * place, alignments=alignments))
        brain.observe(step=10 * place, epoch=0, metric=1.0 - 0.01 * place)
    assert ({each.reason for each in found if each} == {Reason.STEADY_PROGRESS}) is raised
    assert (brain.factor > 1.0) is raised


def test_after_a_raise_three_validations_are_waited_for() -> None:
    """Those under the old factor do not speak of the new one."""
    brain = brain_of(steps=None)
    raised = []
    for place in range(1, 20):
        assert window(brain, 10 * place, alignments=UNDECIDED) is None
        if place % 3 == 0 and brain.observe(step=10 * place, epoch=0, metric=1.0 - 0.01 * place):
            raised.append(place)
    assert raised == [9, 18]


def test_a_run_that_anneals_raises_nothing() -> None:
    """Nor is the alignment read in it."""
    brain = brain_of(steps=1000, anneal_share=0.9)
    window(brain, 110)
    assert brain.state.phase == "annealing"
    assert window(brain, 120, alignments=POINTS_ON) is None
    assert not brain.wants_alignment(120)


@pytest.mark.parametrize(
    ("half_width", "raised"), [(0.0, True), (0.25, True), (0.35, False)], ids=["sure", "4.0 errors", "2.9 errors"]
)
def test_cosines_have_to_be_three_and_a_half_errors_above_zero(half_width: float, raised: bool) -> None:
    """The mean is the same."""
    brain = brain_of()
    window(brain, 10, alignments=[0.333 + half_width, 0.333 - half_width] * 5)
    assert (brain.factor > 1.0) is raised


def test_tiny_cosines_do_not_raise_however_sure_they_are() -> None:
    """Up to 0.02 a gradient hardly points anywhere."""
    brain = brain_of()
    assert window(brain, 10, alignments=[0.019, 0.0191] * 5) is None
