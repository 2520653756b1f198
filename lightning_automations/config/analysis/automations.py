"""The automations that a file asks for: in our section, or by class path in ``trainer.callbacks``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lightning_automations.config.analysis.fact import Fact, WrittenAutomation
from lightning_automations.config.analysis.values import Values, text
from lightning_automations.config.interpolation import Path, dotted
from lightning_automations.config.names import BUILT_UNNAMED, SETTINGS_CLASSES, known_automations
from lightning_automations.config.section import Section
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.errors import ConfigError, Problem, nearest
from lightning_automations.core.settings import AutomationSettings

__all__ = ["BATCH_OWNERS", "RATE_FINDERS", "STOPPERS"]
__all__ += ["automations_of_section", "callbacks_by_class_path", "callbacks_named"]

_PACKAGE = "lightning_automations"

STOPPERS = ("EarlyStopping", "EarlyStoppingCallback")
"""Callbacks that end a run."""
BATCH_OWNERS = ("BatchSizeFinder", "GradientAccumulationScheduler")
"""Callbacks that choose the batch, or how many of them make an optimizer step."""
RATE_FINDERS = ("LearningRateFinder",)
"""Callbacks that choose the learning rate."""


def automations_of_section(section: Section) -> tuple[WrittenAutomation, ...]:
    """What the section asks for; all automations with their defaults where it names none."""
    turned_on = section.values.get("enabled", True) is not False
    known = known_automations()
    named = [(known[name], name) for name in section.values if name in known]
    if not named:
        return tuple(
            WrittenAutomation(kind=kind, path=section.path, written={}, settings=kind(), enabled=turned_on)
            for kind in BUILT_UNNAMED
        )
    return tuple(
        _automation(kind, section.values[name], joined(section.path, name), turned_on=turned_on)[0]
        for kind, name in named
    )


def callbacks_by_class_path(values: Values, trainer: Path) -> tuple[list[WrittenAutomation], list[Problem]]:
    """The automations in ``trainer.callbacks``, and what is wrong with their arguments."""
    known = known_automations()
    found, problems = [], []
    for class_path, place in _callbacks(values, trainer):
        package, _, name = class_path.value.rpartition(".")
        if name in known and _top(package) == _top(known[name].__module__):
            arguments = values.plain(*place, "init_args")
            path = joined(dotted(place), "init_args")
            automation, wrong = _automation(known[name], arguments, path, turned_on=True)
            found.append(replace(automation, by_class_path=True))
            problems += wrong
        elif _top(package) == _PACKAGE or (name in known and nearest(_top(package), [_PACKAGE])):
            problems.append(_unknown(class_path.path, class_path.value))
    return found, problems


def callbacks_named(values: Values, trainer: Path, names: tuple[str, ...]) -> tuple[Fact[str], ...]:
    """The callbacks in ``trainer.callbacks`` whose classes have one of these names, by their class path."""
    paths = [class_path for class_path, _ in _callbacks(values, trainer)]
    return tuple(path for path in paths if path.value.rpartition(".")[2] in names)


def _top(module: str) -> str:
    """The package in which a class is at home; it may be named by another module of it than the one that defines it."""
    return module.partition(".")[0]


def _callbacks(values: Values, trainer: Path) -> list[tuple[Fact[str], Path]]:
    """Class path and place of each: LightningCLI takes a list or one alone, each a mapping or a class path alone."""
    alone: Path = (*trainer, "callbacks")
    facts = [(values.first(text, (*place, "class_path"), place), place) for place in (values.items(*alone) or [alone])]
    return [(fact, place) for fact, place in facts if fact is not None]


def _unknown(path: str, class_path: str) -> Problem:
    """A class of our package that it does not have, or one of ours in a package with nearly its name."""
    ours = [kind.automation for kind in SETTINGS_CLASSES]
    return Problem(
        path=path,
        expected=f"{_PACKAGE} with one of {', '.join(ours)}",
        got=repr(class_path),
        hint=nearest(class_path, [f"{_PACKAGE}.{name}" for name in ours]),
    )


def _automation(
    kind: type[AutomationSettings], value: Any, path: str, *, turned_on: bool
) -> tuple[WrittenAutomation, list[Problem]]:
    written = dict(value) if isinstance(value, Mapping) else {}
    settings: AutomationSettings | None = None
    problems: list[Problem] = []
    try:
        settings = kind.from_mapping(written)
    except ConfigError as error:
        problems = [problem.moved(kind.automation, path) for problem in error.problems]
    enabled = turned_on and written.get("enabled", True) is not False
    automation = WrittenAutomation(kind=kind, path=path, written=written, settings=settings, enabled=enabled)
    return automation, problems
