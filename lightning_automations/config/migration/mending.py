"""From a section that is there to the same one with the values that mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning_automations.config.analysis.facts import TrainingFacts
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.diagnosis.finding import Change
from lightning_automations.config.loading import Check
from lightning_automations.config.migration.editing import Edit, added_members, applied, replaced
from lightning_automations.config.migration.layout import Span, read_layout
from lightning_automations.config.migration.rendering import scalar
from lightning_automations.config.migration.result import changed, checked_text, refused
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings
from lightning_automations.core.settings import AutomationSettings

__all__ = ["mended"]


def mended(
    text: str, facts: TrainingFacts, source: str, *, checks: Mapping[type[AutomationSettings], Check] | None = None
) -> str:
    """The text with the values that mend what ``check`` finds; the same text where it has none to offer.

    Args:
        text: The text of the file.
        facts: About the file.
        source: The path of the file.
        checks: As for ``load_settings``.

    Raises:
        ConfigError: If one of the values cannot be written where it belongs: an alias, ``<<`` or an interpolation
            brings it, and others may use it.
    """
    root, expected = read_layout(text), dict(facts.document.data)
    edits: list[Edit] = []
    added: dict[tuple[str, ...], list[str]] = {}
    for change in _changes(facts, source):
        keys = change.path.split(".")
        span = root.at(*keys)
        if span is not None and span.kind == "mapping":  # an older automation with settings of its own
            keys, span = [*keys, "enabled"], span.at("enabled")
        if span is not None and (span.kind == "scalar" or (span.kind == "list" and span.in_braces)):
            edits.append(replaced(span, scalar(change.value)))
        elif _can_be_added(text, root, keys, expected, section=_section_path(facts)):
            added.setdefault(tuple(keys[:-1]), []).append(f"{keys[-1]}: {scalar(change.value)}")
        else:
            raise ConfigError([_elsewhere(facts, change, source)])
        expected = changed(expected, keys, change.value)
    edits += _additions(text, root, added)
    return checked_text(applied(text, edits), expected, source, checks=checks) if edits else text


def _changes(facts: TrainingFacts, source: str) -> Iterator[Change]:
    """What ``check`` offers; a clip value that is turned off lives on as the threshold to start from."""
    clip, written = facts.clip, facts.automation(GradientClippingSettings)
    for change in diagnose(facts).changes():
        yield change
        if clip is None or clip.value is True or written is None or change.path != clip.path:
            continue
        if "initial_threshold" not in written.written:
            path = joined(written.path, "initial_threshold")
            try:
                GradientClippingSettings.from_mapping({**written.written, "initial_threshold": clip.value})
            except ConfigError as error:
                (problem,) = error.problems
                by_hand = problem.hint or ""
                line = facts.line(written.path)
                raise ConfigError(
                    [refused(problem.expected, problem.got, source, path, line, by_hand=by_hand)]
                ) from None
            yield Change(path, clip.value)


def _can_be_added(text: str, root: Span, keys: Sequence[str], data: Any, *, section: str) -> bool:
    """Whether a setting has no value yet, and stands in an automation of the text.

    A name of an automation, in a section that names none, would turn the others off.
    """
    if ".".join(keys[:-1]) == section or _holds(data, keys):
        return False
    return bool(_additions(text, root, {tuple(keys[:-1]): ["new: 1"]}))


def _additions(text: str, root: Span, added: Mapping[tuple[str, ...], Sequence[str]]) -> list[Edit]:
    places = [(root.at(*keys), members) for keys, members in added.items()]
    edits = [added_members(text, span, members) for span, members in places if span is not None]
    return [edit for edit in edits if edit is not None]


def _section_path(facts: TrainingFacts) -> str:
    return "" if facts.section is None else facts.section.path


def _holds(data: Any, keys: Sequence[str]) -> bool:
    """Whether there is a value at a path, wherever it is written."""
    for key in keys:
        if not isinstance(data, Mapping) or key not in data:
            return False
        data = data[key]
    return True


def _elsewhere(facts: TrainingFacts, change: Change, source: str) -> Problem:
    outer, _, name = change.path.rpartition(".")
    got = "one that stands elsewhere: an alias, << or an interpolation brings it"
    if outer == _section_path(facts):
        got = "a section that names no automations"
    by_hand = f"Write {name}: {scalar(change.value)} by hand."
    expected = "a value that can be replaced or added"
    return refused(expected, got, source, change.path, facts.line(change.path), by_hand=by_hand)
