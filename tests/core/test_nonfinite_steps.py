"""When a run with gradients that are not finite counts as lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.nonfinite_steps import NonFiniteSteps


@given(st.lists(st.booleans()), st.integers(1, 5))
def test_a_run_is_lost_at_every_so_many_bad_steps_in_a_row(finite: list[bool], lost_after: int) -> None:
    """The twin counts backwards from each step to the last good one."""
    subject = NonFiniteSteps(lost_after)
    lost = [subject.see(optimizer=0, finite=one) for one in finite]
    for step, is_lost in enumerate(lost):
        since = step + 1 - max((index + 1 for index in range(step + 1) if finite[index]), default=0)
        assert is_lost == (since > 0 and since % lost_after == 0)


def test_optimizers_are_counted_apart() -> None:
    """A good step of one says nothing about the other."""
    subject = NonFiniteSteps(2)
    assert not subject.see(optimizer=0, finite=False)
    assert not subject.see(optimizer=1, finite=True)
    assert not subject.see(optimizer=1, finite=False)
    assert subject.see(optimizer=0, finite=False)


def test_nothing_is_lost_where_no_number_is_given() -> None:
    """The user turned it off."""
    subject = NonFiniteSteps(None)
    assert not any(subject.see(optimizer=0, finite=False) for _ in range(1000))


def test_a_resumed_count_goes_on_and_a_new_start_forgets_it() -> None:
    """The state is all that it knows."""
    first, second = NonFiniteSteps(3), NonFiniteSteps(3)
    for _ in range(2):
        first.see(optimizer=1, finite=False)
    second.load_state_dict(first.state_dict())
    assert second.see(optimizer=1, finite=False)
    first.start_anew()
    assert not first.see(optimizer=1, finite=False)
