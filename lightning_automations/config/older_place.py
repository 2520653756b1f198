"""``train.dynamic_loss_scheduling``: where loss scheduling stood before there was a section, and is read still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_automations.config.analysis.recipe import read_switch
from lightning_automations.config.analysis.values import Values
from lightning_automations.config.document import Document
from lightning_automations.config.names import SECTION, known_automations
from lightning_automations.config.section import Section, read_sections
from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings

__all__ = ["OLDER_PLACES", "OlderPlace", "notes_on_older_place", "read_older_place"]

OLDER_PLACES = (("train", "dynamic_loss_scheduling"), ("dynamic_loss_scheduling",))
"""The first that is turned on counts."""
_KIND = LossSchedulingSettings


@dataclass(frozen=True, kw_only=True)
class OlderPlace:
    """Loss scheduling in its older place, turned on.

    Args:
        path: Where it stands.
        values: Those of its values that are settings of ours.
        foreign: The names of the others: they belong to the program that the file was written for.
        problems: What is wrong with the values.
    """

    path: str
    values: Mapping[str, Any]
    foreign: tuple[str, ...]
    problems: tuple[Problem, ...]

    def is_overruled(self, section: Section | None) -> bool:
        """Whether the section decides in its place: it names loss scheduling, or is turned off as a whole."""
        if section is None:
            return False
        known = known_automations()
        names_it = any(known.get(name) is _KIND for name in section.values)
        return names_it or section.values.get("enabled", True) is False


def read_older_place(document: Document) -> OlderPlace | None:
    """Loss scheduling in its older place; None where there is none, or it is turned off."""
    fact = read_switch(Values(document), *OLDER_PLACES)
    if fact is None:
        return None
    known = _KIND.types()
    values = {name: value for name, value in fact.value.items() if name in known}
    problems: tuple[Problem, ...] = ()
    try:
        _KIND.from_mapping(values)
    except ConfigError as error:
        problems = tuple(problem.moved(_KIND.automation, fact.path) for problem in error.problems)
    foreign = tuple(name for name in fact.value if name not in known)
    return OlderPlace(path=fact.path, values=values, foreign=foreign, problems=problems)


def notes_on_older_place(document: Document) -> list[str]:
    """What to tell of the older place, in a document that loads: that it is read, or that the section wins."""
    older = read_older_place(document)
    if older is None:
        return []
    sections = read_sections(document, optional=True)
    line = document.line(older.path)
    place = older.path if document.file is None else f"{document.file}:{line}: {older.path}"
    if older.is_overruled(sections[0] if sections else None):
        return [f"{place} is not read: the section {SECTION} decides. Take it out, if no other program reads it."]
    left = f" Not ours, and left alone: {', '.join(older.foreign)}." if older.foreign else ""
    return [
        f"{place} is the older place of {_KIND.automation}: it is built from there. Move it to "
        f"{SECTION}.{_KIND.automation}.{left}"
    ]
