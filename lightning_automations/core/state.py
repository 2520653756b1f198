"""The state of a brain as JSON-able values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar, get_type_hints

from lightning_automations.core.checking import checked

__all__ = ["dumped", "restored"]

StateT = TypeVar("StateT")


def dumped(state: Any) -> dict[str, Any]:
    """The fields of a state dataclass, tuples as lists, as JSON gives them back."""
    return {name: _listed(value) for name, value in asdict(state).items()}


def restored(kind: type[StateT], values: Mapping[str, Any]) -> StateT:
    """The state dataclass that ``dumped`` was given.

    Args:
        kind: The dataclass. Its fields are of the types that ``checking`` knows; numbers may be NaN or infinite.
        values: Names and values from a checkpoint. A field that is missing keeps its default: an older version of the
            package wrote the checkpoint.

    Raises:
        ValueError: If a name is unknown or a value has the wrong type.
    """
    hints = get_type_hints(kind, include_extras=True)
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"expected the fields of {kind.__name__} ({', '.join(sorted(known))}), got {unknown}")
    taken: dict[str, Any] = {}
    for name, value in values.items():
        taken[name], problems = checked(value, hints[name], path=name)
        if problems:
            raise ValueError(f"the saved state of {kind.__name__} is damaged: {problems[0]}")
    return kind(**taken)


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
