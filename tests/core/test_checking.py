"""Values against annotated types."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from lightning_automations.core.checking import checkable, checked, expectation, shown


class Fallback(TypedDict, total=False):
    """A mapping with known names, as settings have it."""

    threshold: Annotated[float, Gt(0)]
    kind: Literal["a", "b"]


Share = Annotated[float, Gt(0), Le(1)]
Count = Annotated[int, Ge(1)]


@pytest.mark.parametrize(
    ("value", "hint", "fitted"),
    [
        (True, bool, True),
        (3, int, 3),
        (2e3, int, 2000),
        (3, float, 3.0),
        (0.5, float, 0.5),
        (math.inf, float, math.inf),
        ("a", str, "a"),
        (None, int | None, None),
        (3, int | None, 3),
        ("auto", str | bool, "auto"),
        (False, str | bool, False),
        (1, Share, 1.0),
        (2.0, Count | None, 2),
        (0, Annotated[int, Ge(0), Lt(1)], 0),
        ("b", Literal["a", "b"], "b"),
        (False, Literal["off", False], False),
        (["a"], tuple[Literal["a", "b"], ...], ("a",)),
        ((), tuple[str, ...], ()),
        ("all", Literal["all"] | tuple[str, ...], "all"),
        (["x"], Literal["all"] | tuple[str, ...], ("x",)),
        ({"x": 1}, Mapping[str, Any], {"x": 1}),
        ({"x": 1}, dict[str, Any], {"x": 1}),
        ({}, Fallback, {}),
        ({"threshold": 1}, Fallback, {"threshold": 1.0}),
        ([{}], Any, [{}]),
    ],
)
def test_a_sound_value_is_fitted_to_its_type(value: Any, hint: Any, fitted: Any) -> None:
    """What fits comes back as the type that was asked for, without a problem."""
    result, problems = checked(value, hint, path="x")
    assert problems == []
    assert result == fitted
    assert type(result) is type(fitted)


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (1, bool, "x: expected true or false, got 1 (int)."),
        (True, int, "x: expected a whole number, got True (bool)."),
        (False, float, "x: expected a number, got False (bool)."),
        (2.5, int, "x: expected a whole number, got 2.5 (float)."),
        (math.inf, int, "x: expected a whole number, got inf (float)."),
        ("3", float, "x: expected a number, got '3' (str)."),
        (None, float, "x: expected a number, got null."),
        (3, str, "x: expected a text, got 3 (int)."),
        ("3", int | None, "x: expected a whole number or null, got '3' (str)."),
        (0, Share, "x: expected a number above 0 and at most 1, got 0 (int)."),
        (1.1, Share, "x: expected a number above 0 and at most 1, got 1.1 (float)."),
        (math.nan, Share, "x: expected a number above 0 and at most 1, got nan (float)."),
        (1, Annotated[float, Lt(1)], "x: expected a number below 1, got 1 (int)."),
        (0, Count, "x: expected a whole number at least 1, got 0 (int)."),
        (math.inf, Annotated[float, Gt(0), Lt(math.inf)], "x: expected a number above 0 and finite, got inf (float)."),
        ("c", Literal["a", "b"], "x: expected one of 'a', 'b', got 'c' (str)."),
        (0, Literal["off", False], "x: expected one of 'off', False, got 0 (int)."),
        (["a", "c"], tuple[Literal["a"], ...], "x.1: expected one of 'a', got 'c' (str)."),
        (
            ["beth"],
            Literal["all"] | tuple[Literal["alpha", "beta"], ...],
            "x.0: expected one of 'alpha', 'beta', got 'beth' (str). Did you mean 'beta'?",
        ),
        (
            "al",
            Literal["all"] | tuple[Literal["alpha"], ...],
            "x: expected one of 'all' or a list, each of it one of 'alpha', got 'al' (str). Did you mean 'all'?",
        ),
        ("maxx", Literal["min", "max"], "x: expected one of 'min', 'max', got 'maxx' (str). Did you mean 'max'?"),
        ("MAX", Literal["min", "max"], "x: expected one of 'min', 'max', got 'MAX' (str). Did you mean 'max'?"),
        ("abc", tuple[str, ...], "x: expected a list, each of it a text, got 'abc' (str)."),
        ([1], Mapping[str, Any], "x: expected a mapping, got [1] (list)."),
        (None, Fallback, "x: expected a mapping, got null."),
        ({"threshold": 0}, Fallback, "x.threshold: expected a number above 0, got 0 (int)."),
        (
            {"treshold": 1},
            Fallback,
            "x.treshold: expected one of threshold, kind, got 'treshold'. Did you mean 'threshold'?",
        ),
        ({7: 1}, Fallback, "x.7: expected one of threshold, kind, got 7. Known names: threshold, kind."),
        ("a" * 100, int, f"x: expected a whole number, got '{'a' * 76}... (str)."),
    ],
)
def test_a_wrong_value_says_what_was_expected(value: Any, hint: Any, message: str) -> None:
    """The message has the path, what the type asks for, and the value with its type."""
    result, problems = checked(value, hint, path="x")
    assert [str(problem) for problem in problems] == [message]
    assert result == value or result == {} or math.isnan(value)


@pytest.mark.parametrize(
    "hint",
    [bool, int, float, str, type(None), Any, Count | None, Literal["a", 1, None], tuple[Share, ...],
     Mapping[str, Any], dict, dict[str, int], Mapping, Fallback, Literal["all"] | tuple[str, ...]],
)  # fmt: skip
def test_types_of_settings_can_be_checked(hint: Any) -> None:
    """Whatever is given for one, there is an answer."""
    assert checkable(hint)
    for value in (1, "a", [1], {"a": 1}, None, 0.5):
        checked(value, hint, path="x")


class Wider(TypedDict):
    """A mapping of which one member cannot be checked."""

    size: range


@pytest.mark.parametrize(
    "hint",
    [range, complex, bytes, list, list[int], set[str], tuple, tuple[int, int], type[int], Wider, Fallback | None,
     Annotated[float, "any mark"], int | range, Literal[b"a"], Mapping[str, range]],
)  # fmt: skip
def test_other_types_cannot_be_checked(hint: Any) -> None:
    """YAML has no such value, or there is no answer for it."""
    assert not checkable(hint)


def test_every_problem_of_a_mapping_is_found() -> None:
    """A mapping with known names reports each member."""
    _, problems = checked({"threshold": -1, "kind": "c", "x": 0}, Fallback, path="fallback")
    assert [problem.path for problem in problems] == ["fallback.threshold", "fallback.kind", "fallback.x"]


def test_every_wrong_item_of_a_list_is_found() -> None:
    """Each by its index; those that are sound are not named."""
    _, problems = checked(["a", "c", "b", 1], tuple[Literal["a", "b"], ...], path="criteria")
    assert [problem.path for problem in problems] == ["criteria.1", "criteria.3"]


def test_a_mapping_is_copied() -> None:
    """What the user changes in his mapping afterwards does not reach the settings."""
    given_mapping = {"threshold": 2.0}
    for hint in (Fallback, Mapping[str, Any]):
        fitted, _ = checked(given_mapping, hint, path="x")
        assert fitted == given_mapping
        assert fitted is not given_mapping


def test_a_whole_number_beyond_all_floats_is_refused() -> None:
    """Converting it would overflow."""
    _, problems = checked(10**400, float, path="x")
    assert len(problems) == 1


def test_shown_tells_a_number_from_a_text() -> None:
    """Types are part of what is shown, but null needs none."""
    assert [shown(value) for value in (1, "1", None)] == ["1 (int)", "'1' (str)", "null"]


@given(low=st.floats(allow_nan=False), high=st.floats(allow_nan=False), value=st.floats())
def test_a_value_is_sound_exactly_within_its_bounds(low: float, high: float, value: float) -> None:
    """The four bounds mean what mathematics means by them, also for infinity; NaN is within none."""
    closed, open_ = Annotated[float, Ge(low), Le(high)], Annotated[float, Gt(low), Lt(high)]
    assert (checked(value, closed, path="x")[1] == []) == (low <= value <= high)
    assert (checked(value, open_, path="x")[1] == []) == (low < value < high)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


hints = st.sampled_from([bool, Share, Count | None, str | bool, Literal["a"], tuple[str, ...], Fallback])


@given(value=values, hint=hints)
def test_any_value_is_either_fitted_or_reported(value: Any, hint: Any) -> None:
    """No value raises; what was fitted once is sound as it is."""
    fitted, problems = checked(value, hint, path="x")
    if not problems:
        assert checked(fitted, hint, path="x") == (fitted, [])
    assert expectation(hint)


def test_the_values_of_a_mapping_are_checked_by_their_names() -> None:
    """Each that is wrong is told with its path; a whole number becomes a float."""
    hint = Mapping[str, Annotated[float, Ge(0)]]
    assert checked({"a": 1, "b": 0.5}, hint, path="fallback") == ({"a": 1.0, "b": 0.5}, [])
    _, problems = checked({"a": -1, "b": math.nan, "c": "x", "d": 2.0}, hint, path="fallback")
    assert [problem.path for problem in problems] == ["fallback.a", "fallback.b", "fallback.c"]
    assert checked({"a": object}, Mapping[str, Any], path="parameters")[1] == []
