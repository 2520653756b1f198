"""From a configuration to the settings of each automation, with everything that is wrong in it said at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lightning_automations.config.document import Document, read_document
from lightning_automations.config.names import BUILT_UNNAMED, REGISTERED, SECTION, SETTINGS_CLASSES, known_automations
from lightning_automations.config.older_place import OlderPlace, read_older_place
from lightning_automations.config.section import Section, not_a_mapping, read_sections
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.checking import checked
from lightning_automations.core.errors import ConfigError, Problem, nearest
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings
from lightning_automations.core.settings import SECTION_SETTINGS, AutomationSettings

__all__ = ["Check", "Written", "load_settings", "settings_of"]

Written = tuple[type[AutomationSettings], dict[str, Any]]
"""An automation, and the settings that were written for it: what is not written may be fitted to the run."""

Check = Callable[[Mapping[str, Any], str], Iterable[Problem]]
"""Finds what is wrong with the settings written for an automation beyond their types; takes them and their path."""

_INHERITED = tuple(name for name in SECTION_SETTINGS if name != "enabled")


def load_settings(source: object, *, checks: Mapping[type[AutomationSettings], Check] | None = None) -> list[Written]:
    """The automations that a configuration turns on, in the order of the file.

    Args:
        source: The path of a YAML file, a mapping, or a ``DictConfig``. The section ``training_automations`` stands at
            its root or under ``train``, in a file of LightningCLI with subcommands under ``fit``; all other keys are
            left alone.
        checks: What else to ask about the settings of an automation: torch, for the arguments of its schedulers.

    Returns:
        Settings classes with the values that were written, each of them checked. ``journal``, ``dry_run``,
        ``report`` and ``progress_bar`` of the section count as written for every automation without its own.

    Raises:
        ConfigError: Lists everything that is wrong, with file and line where the source is a file.

    Example:
        >>> [(automation, written)] = load_settings({"training_automations": {"early_stopping": {"patience": 500}}})
        >>> automation.automation, written
        ('IntelligentEarlyStopping', {'patience': 500})
    """
    return settings_of(read_document(source), checks=checks)


def settings_of(document: Document, *, checks: Mapping[type[AutomationSettings], Check] | None = None) -> list[Written]:
    """As ``load_settings``, of a document that has been read.

    Raises:
        ConfigError: Lists everything that is wrong, with file and line where the document has them.
    """
    problems = list(document.problems)
    automations: list[Written] = []
    older = read_older_place(document)
    try:
        sections = read_sections(document, optional=older is not None)
        for section in sections:
            written, found = _automations(section, document, checks or {})
            automations += written
            problems += [*section.problems, *found]
        if older is not None and not older.is_overruled(sections[0] if sections else None):
            problems += older.problems
            automations.append(_from_older(older, sections))
    except ConfigError as error:
        problems += error.problems
    if problems:
        located = [document.located(problem) for problem in problems]
        raise ConfigError(sorted(located, key=lambda problem: problem.line or 0))
    return automations


def _from_older(older: OlderPlace, sections: Sequence[Section]) -> Written:
    """What the section has for all automations holds for this one, too."""
    shared = sections[0].values if sections else {}
    inherited = {name: shared[name] for name in _INHERITED if name in shared}
    return LossSchedulingSettings, {**inherited, **older.values}


def _automations(
    section: Section, document: Document, checks: Mapping[type[AutomationSettings], Check]
) -> tuple[list[Written], list[Problem]]:
    shared, problems = _section_settings(section)
    inherited = {name: shared[name] for name in _INHERITED if name in shared}
    known = known_automations()
    named: dict[type[AutomationSettings], str] = {}
    automations: list[Written] = []
    for name, value in section.values.items():
        if name in SECTION_SETTINGS:
            continue
        path = joined(section.path, name)
        automation = known.get(name)
        if automation is None:
            problems.append(_unknown(name, path, [*known, *SECTION_SETTINGS]))
            continue
        if automation in named:
            problems.append(_named_twice(automation, path, named[automation], document))
        named.setdefault(automation, path)
        written, found = _written(automation, value, path, checks.get(automation))
        problems += _without_consequences(found, value, path, section)
        automations.append((automation, {**inherited, **written}))
    if not named:
        automations = [(automation, dict(inherited)) for automation in BUILT_UNNAMED]
    if problems or not shared.get("enabled", True):
        return [], problems
    return [(automation, written) for automation, written in automations if written.get("enabled", True)], []


def _section_settings(section: Section) -> tuple[dict[str, Any], list[Problem]]:
    types = AutomationSettings.types()
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name in SECTION_SETTINGS:
        if name in section.values:
            path = joined(section.path, name)
            values[name], found = checked(section.values[name], types[name], path=path)
            problems += found
    return values, problems


def _written(
    automation: type[AutomationSettings], value: object, path: str, check: Check | None
) -> tuple[dict[str, Any], list[Problem]]:
    if value is None:
        return {}, []
    if not isinstance(value, Mapping):
        return {}, [not_a_mapping(value, path)]
    problems = [] if check is None else list(check(value, path))
    try:
        automation.from_mapping(value)
    except ConfigError as error:
        problems = [*(problem.moved(automation.automation, path) for problem in error.problems), *problems]
    return dict(value), problems


def _without_consequences(problems: list[Problem], value: object, path: str, section: Section) -> list[Problem]:
    """The problems without those of defaults that stand in for what could not be read."""
    unread = {problem.path for problem in section.problems if problem.path.startswith(f"{path}.")}
    if not unread:
        return problems
    written = tuple(joined(path, name) for name in value) if isinstance(value, Mapping) else ()
    return [problem for problem in problems if problem.path.startswith(written) and problem.path not in unread]


def _unknown(name: str, path: str, known: Sequence[str]) -> Problem:
    settings = (*SETTINGS_CLASSES, *REGISTERED)
    names = ", ".join([*(automation.automation for automation in settings), *SECTION_SETTINGS])
    return Problem(
        path=path,
        expected=f"an automation or a setting of {SECTION}",
        got=f"the unknown name {name!r}",
        hint=nearest(name, known) or f"Known names: {names}. {_ONE_OF_YOUR_OWN}",
    )


_ONE_OF_YOUR_OWN = (
    "One of your own has to be registered first: import its module, or name it to the command with --import MODULE."
)


def _named_twice(automation: type[AutomationSettings], path: str, first: str, document: Document) -> Problem:
    line = document.line(first)
    place = f" (line {line})" if line else ""
    got = f"a second one beside {first!r}{place}"
    return Problem(path=path, expected=f"one entry for {automation.automation}", got=got)
