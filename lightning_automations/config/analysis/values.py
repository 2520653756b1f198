"""Reads single values of a configuration that nobody has checked: what is not there or not of its kind is None."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lightning_automations.config.analysis.fact import Fact
from lightning_automations.config.document import Document
from lightning_automations.config.interpolation import Path, Reader, dotted, keys_of
from lightning_automations.core.errors import ConfigError

__all__ = ["Values", "flag", "named", "number", "positive", "text", "whole"]

T = TypeVar("T")


class Values:
    """The values of one document, interpolations resolved.

    Args:
        document: The document.

    Attributes:
        quoted_numbers: Texts that stand where a number was looked for and are one, in quotes, by their path.
        unresolved: What could not be resolved where a value was looked for, as "got" of a problem, by its path.
    """

    def __init__(self, document: Document) -> None:
        self.quoted_numbers: dict[str, Fact[str]] = {}
        self.unresolved: dict[str, Fact[str]] = {}
        self._document = document
        self._reader = Reader(document.data)

    def at(self, *path: str | int) -> Any:
        """The value at a path; None where there is none, or where it cannot be resolved."""
        value: Any = self._document.data
        for depth, key in enumerate(path, start=1):
            if not _holds(value, key):
                return None
            value, problem = self._reader.member(value, key, path[:depth])
            if problem is not None:
                self.unresolved[problem.path] = self.told(problem.got, *path[:depth])
        return value

    def plain(self, *path: str | int) -> Any:
        """The same with all that it holds resolved as well; None where it holds itself."""
        try:
            return Reader(self._document.data).plain(self.at(*path), path)
        except ConfigError:
            return None

    def keys(self, *path: str | int) -> list[str]:
        """The keys of a mapping that are texts; none where no mapping is."""
        value = self.at(*path)
        return [key for key in keys_of(value) if isinstance(key, str)] if isinstance(value, Mapping) else []

    def items(self, *path: str | int) -> list[Path]:
        """The paths of the items of a list; none where no list is."""
        value = self.at(*path)
        return [(*path, index) for index in range(len(value))] if _is_list(value) else []

    def fact(self, read: Callable[[Any], T | None], *path: str | int) -> Fact[T] | None:
        """The value at a path as ``read`` understands it; None where it does not.

        A number in quotes is one in the places that LightningCLI reads: jsonargparse takes it so. Elsewhere it is kept
        among ``quoted_numbers``.
        """
        written = self.at(*path)
        value = read(written)
        meant = _unquoted(written) if value is None else None
        if meant is not None and path[0] in _LIGHTNING_CLI:
            value = read(meant)
        elif meant is not None and read(meant) is not None:
            self.quoted_numbers[dotted(path)] = self.told(str(written), *path)
        return None if value is None else self.told(value, *path)

    def first(self, read: Callable[[Any], T | None], *paths: Sequence[str | int]) -> Fact[T] | None:
        """The first of several paths at which there is something that ``read`` understands."""
        facts = (self.fact(read, *path) for path in paths)
        return next((fact for fact in facts if fact is not None), None)

    def told(self, value: T, *path: str | int) -> Fact[T]:
        """A fact that stands at a path."""
        place = dotted(path)
        return Fact(value=value, path=place, line=self._document.line(place))


def whole(value: Any) -> int | None:
    """A whole number of 1 or more; YAML reads ``4e4`` as a float.

    >>> whole(4e4), whole(-1), whole(True), whole("40000")
    (40000, None, None, None)
    """
    number_read = positive(value)
    return int(number_read) if number_read is not None and number_read.is_integer() else None


def positive(value: Any) -> float | None:
    """A finite number above 0."""
    number_read = number(value)
    return number_read if number_read is not None and number_read > 0 else None


def number(value: Any) -> float | None:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _MOST:
        return None
    return None if math.isnan(value) else float(value)


def text(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def flag(value: Any) -> bool | None:
    """True or false."""
    return value if isinstance(value, bool) else None


def named(value: Any) -> str | None:
    """The last part of a dotted name: the class of a class path.

    >>> named("torch.optim.AdamW")
    'AdamW'
    """
    name = text(value)
    return name and text(name.rpartition(".")[2])


_LIGHTNING_CLI = ("fit", "trainer", "data", "optimizer", "lr_scheduler")
_DIGITS_MAX = 30
_NUMBER = re.compile(r"[-+]?(?:\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")

# Beyond it a whole number loses its last digits as a float; no run has as many steps.
_MOST = 2**53


def _holds(container: Any, key: str | int) -> bool:
    if isinstance(key, int):
        return _is_list(container) and key < len(container)
    return isinstance(container, Mapping) and key in keys_of(container)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _unquoted(value: Any) -> int | float | None:
    """The number that a text is."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value) or len(value) > _DIGITS_MAX:
        return None
    return int(value) if value.lstrip("+-").isdecimal() else float(value)
