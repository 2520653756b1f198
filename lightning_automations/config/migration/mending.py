"""From a section that is there to the same one with the values that mend it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning_automations.config.analysis.facts import TrainingFacts
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.diagnosis.finding import Change
from lightning_automations.config.loading import Check
from lightning_automations.config.migration.editing import Edit, added_member, applied, replaced
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
    root, edits, expected = read_layout(text), [], dict(facts.document.data)
    for change in _changes(facts, source):
        keys = change.path.split(".")
        span = root.at(*keys)
        if span is not None and span.kind == "mapping":  # an older automation with settings of its own
            keys, span = [*keys, "enabled"], span.at("enabled")
        edit = _edit(text, root, span, keys, change.value, section=_section_path(facts))
        if edit is None or (span is None and _holds(expected, keys)):
            raise ConfigError([_elsewhere(facts, change, source)])
        edits.append(edit)
        expected = changed(expected, keys, change.value)
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


def _edit(text: str, root: Span, span: Span | None, keys: Sequence[str], value: Any, *, section: str) -> Edit | None:
    """Another value where one is written, else one more member; None where neither can be."""
    if span is not None:
        return replaced(span, scalar(value)) if span.kind == "scalar" else None
    outer = root.at(*keys[:-1])
    if outer is None or ".".join(keys[:-1]) == section:  # a name of an automation would turn the others off
        return None
    return added_member(text, outer, f"{keys[-1]}: {scalar(value)}")


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
