"""The state of a brain on its way through a checkpoint."""

import json
import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.state import dumped, restored


@dataclass
class State:
    """One field of each type that brains use."""

    best: float = math.inf
    step: int = 0
    name: str | None = None
    seen: tuple[float, ...] = ()
    pairs: tuple[tuple[int, ...], ...] = ()
    flags: dict[str, bool] = field(default_factory=dict)


states = st.builds(
    State,
    best=st.floats(allow_nan=False),
    step=st.integers(),
    name=st.none() | st.text(),
    seen=st.lists(st.floats(allow_nan=False)).map(tuple),
    pairs=st.lists(st.tuples(st.integers(), st.integers())).map(tuple),
    flags=st.dictionaries(st.text(), st.booleans()),
)


@given(state=states)
def test_a_state_survives_json(state: State) -> None:
    """What comes back from JSON is the state that went in, infinite numbers included."""
    values = json.loads(json.dumps(dumped(state)))
    assert values == dumped(state)
    assert restored(State, values) == state


def test_nan_survives_json() -> None:
    """A brain may have NaN as its last reading."""
    assert math.isnan(restored(State, json.loads(json.dumps(dumped(State(best=math.nan))))).best)


def test_a_dumped_state_shares_nothing_with_the_brain() -> None:
    """A checkpoint that is held in memory does not change while the brain goes on."""
    state = State(flags={"a": True})
    values = dumped(state)
    state.flags["a"] = False
    assert values["flags"] == {"a": True}


def test_a_missing_field_keeps_its_default() -> None:
    """A checkpoint of an older version, which knew less, can be loaded."""
    assert restored(State, {"step": 3}) == State(step=3)


def test_an_unknown_field_is_refused() -> None:
    """A checkpoint of another brain or a newer version is not taken for this one."""
    with pytest.raises(ValueError) as caught:
        restored(State, {"step": 3, "z": 1, "a": 2})
    assert str(caught.value) == "expected the fields of State (best, flags, name, pairs, seen, step), got ['a', 'z']"


def test_a_field_of_the_wrong_type_is_refused() -> None:
    """A damaged checkpoint says so where it is loaded, not where the value is used."""
    with pytest.raises(ValueError) as caught:
        restored(State, {"step": "three"})
    assert str(caught.value) == (
        "the saved state of State is damaged: step: expected a whole number, got 'three' (str)."
    )
