"""How the factor falls at the end of a run."""

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
