"""Documents that stand for much more than they hold."""

from collections import UserDict
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_automations.config import sharing
from lightning_automations.config.sharing import refuse_many_repeated_values
from lightning_automations.core.errors import ConfigError


def _told(data: object) -> str:
    with pytest.raises(ConfigError) as caught:
        refuse_many_repeated_values(data)
    return str(caught.value)


def _nested(levels: int, width: int) -> list[Any]:
    data: list[Any] = ["x"] * width
    for _ in range(levels):
        data = [data] * width
    return data


@pytest.mark.parametrize("levels", [5, 100])
def test_nested_aliases_are_refused(levels: int) -> None:
    """Ten to the sixth values are too many, and ten to the hundredth are counted as fast."""
    assert _told({"a": _nested(levels, 10)}) == "expected at most 100000 values that aliases repeat, got more."


def test_the_bound_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there once is free; every further place where it stands counts with all its values."""
    shared = {"x": 1, "y": [2, 3]}  # five values: two containers and three scalars
    monkeypatch.setattr(sharing, "REPEATED_VALUES_MAX", 10)
    refuse_many_repeated_values([shared, shared, shared])
    monkeypatch.setattr(sharing, "REPEATED_VALUES_MAX", 9)
    assert _told([shared, shared, shared]) == "expected at most 9 values that aliases repeat, got more."


@pytest.mark.parametrize("make", [list, tuple, dict, UserDict])
def test_a_large_document_without_aliases_is_fine(make: Any) -> None:
    """A long list of files is no attack."""
    items = range(150_000)
    refuse_many_repeated_values(make(items) if make in (list, tuple) else make((item, item) for item in items))


def test_a_document_that_holds_itself_is_refused() -> None:
    """Nothing could write it out."""
    data: dict[str, Any] = {"a": [1]}
    data["a"].append(data)
    assert _told(data) == "expected a document that does not hold itself, got one in which a value holds itself."


def test_a_document_that_is_too_deep_is_refused() -> None:
    """Python's own limit ends the descent."""
    data: list[Any] = []
    for _ in range(100_000):
        data = [data]
    assert _told(data) == "expected a document nested less deeply, got one that is nested too deeply."


def test_containers_of_omegaconf_are_not_opened() -> None:
    """Reading their values would resolve interpolations that are not ours."""
    refuse_many_repeated_values(OmegaConf.create({"a": "${nowhere}", "b": ["${nowhere}"]}))
