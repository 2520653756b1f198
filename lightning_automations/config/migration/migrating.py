"""From a configuration without automations to the same one with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_automations.config.analysis.facts import TrainingFacts, facts_of
from lightning_automations.config.analysis.values import Values
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.document import read_document
from lightning_automations.config.loading import load_settings
from lightning_automations.config.migration.editing import added_member, applied, replaced
from lightning_automations.config.migration.layout import read_layout
from lightning_automations.config.migration.owners import Owner, read_owners
from lightning_automations.config.migration.recommendation import Numbers, recommended, stopper_is_useless
from lightning_automations.config.migration.rendering import scalar, section_lines
from lightning_automations.config.names import SECTION
from lightning_automations.config.yaml_tree import YamlTree
from lightning_automations.core.early_stopping import EarlyStoppingSettings
from lightning_automations.core.errors import ConfigError, Problem

__all__ = ["migrated"]


def migrated(text: str, source: str) -> str:
    """The text of a configuration with the recommended section in it.

    The section goes to the end of ``train``, or to the end of the file where there is no ``train`` that lines can be
    added to. In a section that is there those values are changed for which ``check`` has a better one. What an
    automation does from now on is turned off where it is done otherwise: ``grad_clip`` and ``auto_vram_management``.
    Their keys stay, as many a program clips where the key is missing. The scheduler stays too: the automation's factor
    is on top of it, so that a run in which nothing happens is the run that it was. The fallback has the scheduler's own
    numbers.

    Args:
        text: The text of the file, without a byte order mark.
        source: The path of the file.

    Raises:
        ConfigError: If the file does not load, cannot be changed safely, or is one of LightningCLI, whose callbacks
            stand in a list.
    """
    document = read_document(source)
    if document.problems:
        raise ConfigError(document.located(problem) for problem in document.problems)
    facts = facts_of(document)
    if facts.section is not None:
        load_settings(source)
        return _mended(text, facts, source)
    values = Values(document)
    if any("trainer" in values.keys(*base) for base in ((), ("fit",))):
        raise ConfigError([_refused("a file whose automations stand in a section", "a file of LightningCLI", source)])
    return _with_section(text, facts, values, source)


def _mended(text: str, facts: TrainingFacts, source: str) -> str:
    """With the values that mend what ``check`` finds. Those that an alias or ``<<`` brings stay as they are."""
    root, edits, expected = read_layout(text), [], dict(facts.document.data)
    for change in diagnose(facts).changes():
        keys = change.path.split(".")
        span = root.at(*keys)
        if span is not None and span.kind == "scalar":
            edits.append(replaced(span, scalar(change.value)))
            expected = _changed(expected, keys, change.value)
    return _checked(applied(text, edits), expected, source) if edits else text


def _with_section(text: str, facts: TrainingFacts, values: Values, source: str) -> str:
    root, numbers = read_layout(text), _numbers(facts)
    block, useless = recommended(numbers), stopper_is_useless(numbers)
    train = root.at("train")
    place, keys = root, [SECTION]
    if train is not None and train.is_open_mapping:
        place, keys = train, ["train", SECTION]
    if not place.is_open_mapping:
        raise ConfigError([_refused("keys on lines of their own", "a mapping in braces", source)])
    reasons = {} if useless is None else {EarlyStoppingSettings.automation: useless}
    edits = [added_member(text, place, section_lines(block, turned_off=reasons))]
    expected = dict(facts.document.data)
    for owner in read_owners(values):
        span = root.at(*owner.keys)
        if span is None:
            raise ConfigError([_elsewhere(owner, source)])
        edits.append(replaced(span, scalar(owner.value)))
        expected = _changed(expected, owner.keys, owner.value)
    return _checked(applied(text, edits), _changed(expected, keys, {"enabled": True, **block}), source)


def _changed(data: Mapping[Any, Any], keys: Sequence[str], value: Any) -> dict[Any, Any]:
    """A copy with another value at a path."""
    first, *others = keys
    return {**data, first: _changed(data[first], others, value) if others else value}


def _numbers(facts: TrainingFacts) -> Numbers:
    length, clip, scheduler, between = facts.length, facts.clip, facts.scheduler, facts.validation_steps
    rates = [optimizer.rate.value for optimizer in facts.optimizers if optimizer.rate is not None]
    return Numbers(
        steps=None if length.steps is None else length.steps.value,
        batch_size=None if length.batch_size is None else length.batch_size.value,
        rate=rates[0] if rates else None,
        clip_norm=None if clip is None else float(clip.value),
        scheduler_type=None if scheduler is None else scheduler.type.value,
        scheduler_params={} if scheduler is None else scheduler.arguments,
        validation_steps=None if between is None else between.value,
        metrics=None if facts.metrics is None else facts.metrics.value,
        no_validation=None if facts.no_validation is None else facts.no_validation.value,
    )


def _checked(text: str, expected: Mapping[str, Any], source: str) -> str:
    """The new text, once it is known to hold what it should and nothing else."""
    try:
        tree = YamlTree(text)
        # repr tells 1 from 1.0 and from true, and NaN equals itself
        sound = not tree.problems and repr(tree.data) == repr(expected)
        load_settings(tree.data)
    except ConfigError:  # its lines are those of a text that nobody has seen
        sound = False
    if not sound:
        raise ConfigError([_refused("a file to which keys can be added", "one where that changes others", source)])
    return text


def _elsewhere(owner: Owner, source: str) -> Problem:
    got = "one that stands elsewhere, or none"
    return _refused("a value that can be replaced", got, source, ".".join(owner.keys), owner.line)


def _refused(expected: str, got: str, source: str, path: str = "", line: int | None = None) -> Problem:
    hint = "Nothing was changed. Add the section by hand."
    return Problem(path=path, expected=expected, got=got, hint=hint, file=source, line=line)
