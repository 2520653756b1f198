"""Values that stand in several places of a document, as YAML's aliases make them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import Container

from lightning_automations.core.errors import ConfigError, Problem

__all__ = ["REPEATED_VALUES_MAX", "refuse_many_repeated_values"]

REPEATED_VALUES_MAX = 100_000
"""Values that a document may gain when each alias is replaced by what it stands for, as OmegaConf does."""


def refuse_many_repeated_values(data: object) -> None:
    """Stop nested aliases before anything copies them: ten levels of ten aliases each stand for ten billion values.

    Raises:
        ConfigError: If the document stands for too many more values than it holds, holds itself, or is nested more
            deeply than Python can follow.
    """
    count = _Count()
    try:
        expanded = count.expanded(data)
    except RecursionError:
        raise _refused("a document nested less deeply", "one that is nested too deeply") from None
    if expanded == math.inf:
        raise _refused("a document that does not hold itself", "one in which a value holds itself")
    if expanded - count.distinct > REPEATED_VALUES_MAX:
        raise _refused(f"at most {REPEATED_VALUES_MAX} values that aliases repeat", "more")


def _refused(expected: str, got: str) -> ConfigError:
    return ConfigError([Problem(path="", expected=expected, got=got)])


class _Count:
    """Counts values, each shared mapping or list once, and knows how many there would be without sharing."""

    def __init__(self) -> None:
        self.distinct = 0
        self._sizes: dict[int, float] = {}

    def expanded(self, value: object) -> float:
        """Values below and including this one, with every shared one counted wherever it stands."""
        if id(value) in self._sizes:
            return self._sizes[id(value)]
        self.distinct += 1
        children = _children(value)
        if children is None:
            return 1
        self._sizes[id(value)] = math.inf  # met again before it is counted: it holds itself
        size = 1 + sum(self.expanded(child) for child in children)
        self._sizes[id(value)] = size
        return size


def _children(value: object) -> Iterable[Any] | None:
    # A container of OmegaConf shares nothing; reading its values would resolve its interpolations.
    if isinstance(value, Container):
        return None
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple)) else None
