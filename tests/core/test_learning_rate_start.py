"""The first steps of a fit: which rate is tried, and which one holds."""

import pytest

from lightning_automations.core.decision import Reason
from tests.core.learning_rates import POINTS_ON, brain_of, lost, window


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


def test_a_rate_that_stands_still_starts_again_at_three_tenths() -> None:
    """And falls from there on: the lower rate holds."""
    brain = brain_of(fresh=True)
    window(brain, 10, can_go_back=True)
    found = window(brain, 20, can_go_back=True)
    assert found is not None
    assert (found.reason, found.new) == (Reason.START_NOT_FALLING, 0.3)
    assert window(brain, 30, 0.8, can_go_back=True) is None
    assert not brain.tries
    assert brain.factor == 0.3


def test_a_gradient_that_points_on_ends_the_trial_with_a_raise() -> None:
    """A loss that does not move because the rate is far too low."""
    brain = brain_of(fresh=True)
    found = window(brain, 10, alignments=POINTS_ON, can_go_back=True)
    assert found is not None
    assert (found.reason, found.new) == (Reason.GRADIENT_POINTS_ON, 3.0)
    assert not brain.tries
    assert not brain.goes_back


def test_nothing_is_tried_while_the_schedule_rises() -> None:
    """A warm-up that rises in the first window already is known from the rates of the start."""
    brain = brain_of(fresh=True)
    brain.begin(step=0, horizon_steps=1000, rates=(0.01,))
    exploded = [1.0, *[55.0] * 9]
    for place in range(1, 6):
        step, rates = 10 * place, (0.02 * place,)
        assert brain.observe(step=step, epoch=0, loss=50.0, losses=exploded, rates=rates, can_go_back=True) is None
    assert brain.tries
    assert brain.state.losses == ()


@pytest.mark.parametrize("changes", [{"find_start": False}, {"monitor_loss": False}])
def test_no_loss_no_trial(changes: dict[str, bool]) -> None:
    """Nor where it is turned off, nor in a fit that goes on."""
    assert not brain_of(fresh=True, **changes).tries
    assert not brain_of(fresh=False).tries


def test_a_window_without_a_loss_and_one_of_few_losses_decide_nothing() -> None:
    """Ten losses are waited for."""
    brain = brain_of(fresh=True)
    assert brain.observe(step=10, epoch=0, can_go_back=True) is None
    assert brain.observe(step=20, epoch=0, loss=55.0, losses=[1.0, *[55.0] * 5], can_go_back=True) is None
    assert brain.tries
    assert brain.observe(step=30, epoch=0, loss=55.0, losses=[55.0] * 4, can_go_back=True) is not None


def test_after_the_trial_an_explosion_is_measured_from_its_start() -> None:
    """The loss of the start is the higher one of the first loss and the level of the end."""
    brain = brain_of(fresh=True)
    window(brain, 10, 0.5, can_go_back=True, losses=[4.0, *[0.5, 0.51] * 4, 0.5])
    assert not brain.tries
    assert window(brain, 20, 5.0, can_go_back=True) is None
    found = window(brain, 30, 7.0, can_go_back=True)
    assert found is not None
    assert found.reason is Reason.DIVERGENCE
    assert found.evidence["start_loss"] == 4.0


def test_a_rate_that_exploded_at_the_start_is_never_reached_again() -> None:
    """Once a lower one works, six tenths of it are the limit."""
    brain = brain_of(fresh=True)
    exploded = [1.0, *[55.0] * 9]
    assert brain.observe(step=10, epoch=0, loss=50.0, losses=exploded, rates=(0.1,), can_go_back=True) is not None
    assert window(brain, 20, 0.5, can_go_back=True) is None
    raised = [window(brain, 10 * place, 0.5, alignments=POINTS_ON, can_go_back=True) for place in range(3, 20)]
    assert max(adjustment.new for adjustment in raised if adjustment is not None) == 0.6


def test_one_odd_first_loss_does_not_lower_the_rate_of_a_run_that_stands_still() -> None:
    """The lower rate is tried, its first loss is one of the start too, and the given rate comes back."""
    brain = brain_of(fresh=True)
    first = window(brain, 10, losses=[0.7, *[1.0, 1.02, 0.98] * 3], can_go_back=True)
    assert first is not None
    assert first.new == 0.1
    found = [window(brain, step, can_go_back=True) for step in (20, 30)]
    assert found[1] is not None
    assert (found[1].reason, found[1].new) == (Reason.NO_BETTER_RATE, 1.0)


def test_a_loss_that_changes_its_meaning_in_the_trial_is_measured_from_there() -> None:
    """A loss that is ten times as high because its weights were changed has not exploded."""
    brain = brain_of(fresh=True)
    assert brain.observe(step=5, epoch=0, loss=1.0, losses=[1.0] * 5, can_go_back=True) is None
    brain.start_anew(5)
    assert window(brain, 15, 10.0, can_go_back=True) is None
    assert brain.tries
