"""When the run goes back to a snapshot, and what never happens again after it."""

import math

import pytest

from lightning_automations.core.decision import Reason
from tests.core.learning_rates import POINTS_ON, brain_of, lost, settled, window


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


def test_a_start_without_a_finite_loss_does_not_go_back_for_ever() -> None:
    """Down to the lowest factor it is tried lower; from there on the returns count."""
    brain = brain_of(fresh=True, min_lr_factor=0.05, max_rollbacks=3)
    back = 0
    for step in range(10, 500, 10):
        lost(brain, step, can_go_back=True)
        back += brain.goes_back
    assert back == 2 + 3
    assert not brain.tries


def test_a_loss_that_changes_its_meaning_does_not_free_a_rate_that_blew_up_before() -> None:
    """The limit of then holds again."""
    brain = settled()
    window(brain, 310, 100.0, can_go_back=True)
    for step in range(320, 500, 10):
        window(brain, step, can_go_back=True)
    window(brain, 500, 50.0, can_go_back=True)
    found = window(brain, 510, 50.0, can_go_back=True)
    assert found is not None
    assert found.reason is Reason.LOSS_CHANGED
    for step in range(520, 600, 10):
        window(brain, step, 50.0, alignments=POINTS_ON, can_go_back=True)
    assert brain.factor == 0.6


def test_losses_that_are_no_numbers_are_no_change_of_meaning() -> None:
    """A return in doubt and a second one for NaN: the factor of before is not given back."""
    brain = settled()
    window(brain, 310, 100.0, can_go_back=True)
    lost(brain, 320, can_go_back=True)
    found = window(brain, 330, 100.0, can_go_back=True)
    assert found is None or found.reason is not Reason.LOSS_CHANGED
    assert brain.factor < 0.5


@pytest.mark.parametrize("can_go_back", [True, False])
def test_a_slow_climb_goes_back_too(can_go_back: bool) -> None:
    """A sure rise that is no explosion, at two windows in a row; without a snapshot the rate is cut."""
    brain = settled()
    found = [window(brain, 300 + 10 * place, 1.3, can_go_back=can_go_back) for place in range(1, 5)]
    assert [each and each.reason for each in found] == [None, None, None, Reason.DIVERGENCE]
    assert brain.goes_back is can_go_back
    assert brain.factor == 0.5
    assert brain.state.limit == (0.6 if can_go_back else None)


def test_a_window_in_which_the_loss_rises_is_not_healthy() -> None:
    """No snapshot is taken of its weights."""
    brain = settled()
    assert brain.is_healthy
    healthy = []
    for place in range(1, 4):
        window(brain, 300 + 10 * place, 1.3, can_go_back=True)
        healthy.append(brain.is_healthy)
    assert healthy == [True, True, False]


def test_a_single_window_of_losses_that_are_no_numbers_is_overcome() -> None:
    """Where it is less than half of one."""
    brain = settled()
    losses = [1.0] * 6 + [math.nan] * 4
    assert window(brain, 310, losses=losses, non_finite=0.4, can_go_back=True) is None
    assert window(brain, 320, can_go_back=True) is None
    assert window(brain, 330, losses=losses, non_finite=0.4, can_go_back=True) is None
    found = window(brain, 340, losses=losses, non_finite=0.4, can_go_back=True)
    assert found is not None
    assert (found.reason, brain.goes_back) == (Reason.NON_FINITE, True)


def test_the_start_of_an_explosion_counts_its_noise() -> None:
    """A jump by half of a start that scatters as much is none."""
    brain = brain_of()
    window(brain, 10, losses=[1.0, 3.5, 2.0, 0.5, 3.0, 1.0, 2.5, 4.0, 1.5, 2.0], can_go_back=True)
    assert brain.state.start_noise > 1.0
    assert window(brain, 20, losses=[5.0, 4.0] * 5, can_go_back=True) is None
    assert window(brain, 30, losses=[40.0, 42.0] * 5, can_go_back=True) is not None


def test_after_a_return_the_rate_that_is_too_high_for_everything_reaches_the_lowest_factor() -> None:
    """Each return cuts to a fifth where the one before was just now; none goes below the bound."""
    brain = settled(min_lr_factor=0.1)
    factors = []
    for step in range(310, 350, 10):
        lost(brain, step, can_go_back=True)
        factors.append(brain.factor)
    assert factors == [0.5, 0.1, 0.1, 0.1]


def test_without_a_snapshot_the_loss_is_measured_from_where_it_is_after_a_cut() -> None:
    """A loss that stays three times as high is cut once, not once a cooldown."""
    brain = settled()
    found = [window(brain, step, 3.0) for step in range(310, 1000, 10)]
    cuts = [one for one in found if one is not None and one.reason is Reason.DIVERGENCE]
    assert [(cut.step, cut.new) for cut in cuts] == [(310, 0.5)]


def test_a_return_that_would_go_below_the_lowest_factor_is_held_back() -> None:
    """The user is told which bound it was."""
    brain = settled(min_lr_factor=0.8)
    assert window(brain, 310, 100.0, can_go_back=True) is not None
    assert brain.state.held_back


def test_snapshots_are_wanted_of_a_healthy_run_that_may_still_go_back() -> None:
    """Not in the trial, not of an exploded run, and not once every return is used up."""
    assert settled().wants_snapshot
    assert not settled(max_rollbacks=0).wants_snapshot
    trying = brain_of(fresh=True)
    window(trying, 10, can_go_back=True)
    assert not trying.wants_snapshot
    exploded = settled()
    window(exploded, 310, 100.0, can_go_back=True)
    assert not exploded.wants_snapshot
