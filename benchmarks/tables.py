"""What the tables of the scoreboard share: a row is found by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

__all__ = ["row_named"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


def row_named(name: str, rows: Iterable[Row]) -> Row:
    """The row of this name.

    Raises:
        ValueError: If there is none.
    """
    by_name = {row.name: row for row in rows}
    if name not in by_name:
        raise ValueError(f"expected one of {list(by_name)}, got {name!r}")
    return by_name[name]
