"""How the factor falls at the end of a run."""

from itertools import pairwise

import pytest

from lightning_automations.core.decision import Reason
from tests.core.learning_rates import brain_of, window


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


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("steps", [100, 405, 1000])
def test_the_factor_is_that_of_the_middle_of_the_next_window(share: float, steps: int) -> None:
    """A straight line from the begin of the last share to the lowest factor at the last step."""
    brain = brain_of(steps=steps, anneal_share=share, find_start=False)
    for step in range(10, steps + 1, 10):
        window(brain, step)
        left = (steps - step - 5) / (share * steps)
        is_end = step >= (1 - share) * steps
        expected = 0.01 + 0.99 * min(max(left, 0.0), 1.0) if is_end else 1.0
        assert brain.factor == pytest.approx(expected, abs=1e-9)
    assert brain.factor == pytest.approx(0.01)


def test_a_share_of_nothing_is_no_end() -> None:
    """The factor is held to the last step."""
    brain = brain_of(steps=400, anneal_share=0.0)
    assert [window(brain, step) for step in range(10, 410, 10)] == [None] * 40
    assert brain.factor == 1.0


@pytest.mark.parametrize(("rate", "anneals"), [(0.096, True), (0.094, False)])
def test_a_schedule_counts_as_fallen_five_percent_below_its_top(rate: float, anneals: bool) -> None:
    """One parameter group of two is enough."""
    brain = brain_of(steps=400)
    for step in range(10, 410, 10):
        window(brain, step, rates=(0.5, 0.1 if step < 200 else rate))
    assert (brain.factor < 1.0) is anneals


def test_a_divergence_in_the_end_goes_back_and_the_line_goes_on() -> None:
    """Half of the factor, as far down as the line is."""
    brain = brain_of(steps=400)
    for step in range(10, 360, 10):
        window(brain, step, can_go_back=True)
    before = brain.factor
    found = window(brain, 360, 100.0, can_go_back=True)
    assert found is not None
    assert brain.goes_back
    assert brain.factor < 0.6 * before
    for step in range(370, 410, 10):
        window(brain, step, can_go_back=True)
    assert brain.factor == pytest.approx(0.01)


@pytest.mark.parametrize("lowest", [place / 1000 for place in range(1, 1000, 37)])
def test_rounding_does_not_take_the_factor_below_its_bound(lowest: float) -> None:
    """At the last step it is the lowest factor itself."""
    brain = brain_of(steps=400, min_lr_factor=lowest)
    for step in range(10, 410, 10):
        window(brain, step)
    assert brain.factor == pytest.approx(lowest)
    assert brain.factor >= lowest


def test_where_the_schedule_does_the_end_a_plateau_is_still_lowered() -> None:
    """The last quarter is judged like the rest."""
    brain = brain_of(steps=1000, plateau_patience=100, raise_rate=False, min_lr_factor=1e-6)
    found = [window(brain, step, rates=(0.1 if step < 500 else 0.05,)) for step in range(10, 1010, 10)]
    late = [each.reason for each in found if each is not None and each.step > 760]
    assert late
    assert set(late) == {Reason.PLATEAU}


def test_a_run_that_goes_on_for_longer_than_was_planned_goes_on_from_the_rate_that_it_has() -> None:
    """Its factor does not jump, and is annealed again at the new end."""
    brain, longer = brain_of(steps=400), brain_of(steps=1200)
    for step in range(10, 360, 10):
        window(brain, step)
    longer.load_state_dict(brain.state_dict())
    longer.begin(step=350, horizon_steps=1200)
    assert longer.factor == brain.factor
    factors = []
    for step in range(360, 1210, 10):
        window(longer, step)
        factors.append(longer.factor)
    assert all(after <= before for before, after in pairwise([brain.factor, *factors]))
    assert factors[-1] == pytest.approx(0.01)


def test_a_validation_in_the_anneal_leaves_the_factor_to_the_next_window() -> None:
    """A checkpoint between the two would hold a factor that was never used."""
    brain = brain_of(steps=200)
    window(brain, 170)
    before = brain.factor
    assert brain.observe(step=176, epoch=0, metric=0.5) is None
    assert brain.factor == before
    window(brain, 180)
    assert brain.factor < before
