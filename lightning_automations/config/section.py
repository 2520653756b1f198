"""Finds our section in a configuration that holds many other keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightning_automations.config.document import Document
from lightning_automations.config.interpolation import Path, Reader, dotted, keys_of
from lightning_automations.config.names import SECTION
from lightning_automations.core.errors import ConfigError, Problem, nearest

__all__ = ["Section", "not_a_mapping", "read_sections"]

TRAIN = "train"
_CONTAINERS = (TRAIN, "fit")
"""A file of LightningCLI with subcommands has everything that training needs under ``fit``."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The section, its interpolations resolved.

    Args:
        path: Where it stands: ``training_automations``, below ``train``, or below ``fit``.
        values: What it holds.
        problems: What could not be read in it.
    """

    path: str
    values: Mapping[str, Any]
    problems: tuple[Problem, ...]


def read_sections(document: Document, *, optional: bool = False) -> list[Section]:
    """The section of a configuration; a second one is a problem, and read all the same for what is wrong in it.

    Args:
        document: The configuration.
        optional: Whether there may be none. One with a name that is nearly right counts as one that is meant.

    Raises:
        ConfigError: If there is none.
    """
    places = _places(document, optional=optional)
    if not places:
        return []
    sections = [_read(document, path, container) for path, container in places]
    first, *others = sections
    return [first, *(_second(document, section, first.path) for section in others)]


def _read(document: Document, path: Path, container: Any) -> Section:
    reader = Reader(document.data)
    value, problem = reader.member(container, SECTION, path)
    if problem is not None:
        return Section(path=dotted(path), values={}, problems=(problem,))
    try:
        values = {} if value is None else reader.plain(value, path)
    except ConfigError as error:
        return Section(path=dotted(path), values={}, problems=error.problems)
    if not isinstance(values, dict):
        found = (*reader.problems, not_a_mapping(values, dotted(path)))
        return Section(path=dotted(path), values={}, problems=found)
    return Section(path=dotted(path), values=values, problems=tuple(reader.problems))


def not_a_mapping(value: object, path: str) -> Problem:
    """The problem of a section or automation that is given as a single value or a list."""
    hint = None
    if value is False:
        hint = "Write 'enabled: false' below it to turn it off."
    elif value is True:
        hint = "Leave the value empty to take the defaults."
    return Problem(
        path=path, expected="a mapping of settings, or nothing for the defaults", got=_kind(value), hint=hint
    )


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "a list" if isinstance(value, list) else f"{value!r} ({type(value).__name__})"


def _places(document: Document, *, optional: bool) -> list[tuple[Path, Any]]:
    """The path of each section and the mapping that holds it."""
    root, reader = document.data, Reader(document.data)
    places: list[tuple[Path, Any]] = [((SECTION,), root)] if SECTION in keys_of(root) else []
    containers = {name: reader.member(root, name, (name,)) for name in _CONTAINERS if name in keys_of(root)}
    places += [((name, SECTION), one) for name, (one, _) in containers.items() if _is_holder(one)]
    if not places:
        problems = [problem for _, problem in containers.values() if problem is not None]
        train, _ = containers.get(TRAIN, (None, None))
        close = _close_names(root, train)
        if problems or close or not optional:
            raise ConfigError(problems or [_no_section(close)])
    return places


def _is_holder(value: object) -> bool:
    return isinstance(value, Mapping) and SECTION in keys_of(value)


def _second(document: Document, section: Section, first: str) -> Section:
    line = document.line(first)
    place = f" (line {line})" if line else ""
    got = f"a second one beside {first!r}{place}"
    problem = Problem(path=section.path, expected="one section in a document", got=got)
    return replace(section, problems=(problem, *section.problems))


def _close_names(root: Mapping[Any, Any], train: object) -> list[str]:
    names = [*keys_of(root), *(keys_of(train) if isinstance(train, Mapping) else ())]
    return [name for name in names if isinstance(name, str) and nearest(name, [SECTION])]


def _no_section(close: Sequence[str]) -> Problem:
    advice = f"An empty '{SECTION}:' builds all automations with their defaults."
    return Problem(
        path=SECTION,
        expected=f"this section at the root of the document or under {TRAIN!r}",
        got="a document without it",
        hint=f"Is {close[0]!r} meant for it? Then rename it." if close else advice,
    )
