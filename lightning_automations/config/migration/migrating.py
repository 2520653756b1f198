"""From a configuration without automations to the same one with them."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_automations.config.analysis.facts import TrainingFacts, facts_of
from lightning_automations.config.analysis.values import Values
from lightning_automations.config.document import read_document
from lightning_automations.config.loading import Check, load_settings
from lightning_automations.config.migration.editing import Edit, added_lines, added_members, applied, replaced
from lightning_automations.config.migration.layout import Span, read_layout
from lightning_automations.config.migration.mending import mended
from lightning_automations.config.migration.owners import Owner, read_owners
from lightning_automations.config.migration.recommendation import Numbers, fallback_of, recommended, stopper_is_useless
from lightning_automations.config.migration.rendering import scalar, section_lines
from lightning_automations.config.migration.result import changed, checked_text, refused
from lightning_automations.config.names import SECTION
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.settings import AutomationSettings

__all__ = ["migrated"]

_BY_HAND = "Use AutomationsCLI and add the section by hand, or name the callbacks in trainer.callbacks."


def migrated(text: str, source: str, *, checks: Mapping[type[AutomationSettings], Check] | None = None) -> str:
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
        checks: As for ``load_settings``: what else to ask about the settings of an automation.

    Raises:
        ConfigError: If the file does not load, cannot be changed safely, or is one of LightningCLI, whose callbacks
            stand in a list.
    """
    document = read_document(source)
    if document.problems:
        raise ConfigError(document.located(problem) for problem in document.problems)
    facts = facts_of(document, checks=checks)
    if facts.section is not None:
        load_settings(source, checks=checks)
        return mended(text, facts, source, checks=checks)
    values = Values(document)
    if any("trainer" in values.keys(*base) for base in ((), ("fit",))):
        by_hand = "Its automations stand in trainer.callbacks: change them there." if facts.automations else _BY_HAND
        expected = "a file whose automations stand in a section"
        raise ConfigError([refused(expected, "a file of LightningCLI", source, by_hand=by_hand)])
    return _with_section(text, facts, values, source)


def _with_section(text: str, facts: TrainingFacts, values: Values, source: str) -> str:
    root, numbers = read_layout(text), _numbers(facts)
    block, useless = recommended(numbers), stopper_is_useless(numbers)
    train = root.at("train")
    place, keys = root, [SECTION]
    if train is not None and train.is_open_mapping:
        place, keys = train, ["train", SECTION]
    if not place.is_open_mapping:
        raise ConfigError([refused("keys on lines of their own", "a mapping in braces", source)])
    remarks = {} if useless is None else {EarlyStoppingSettings.automation: f"Turned off: {useless}"}
    lost = fallback_of(numbers).lost
    if lost is not None:
        remarks[LearningRateSettings.automation] = f"Fallback: {_in_one_line(lost)}"
    edits = [added_lines(text, place, [*_blank_line(text, place), *section_lines(block, remarks=remarks)])]
    expected = dict(facts.document.data)
    for owner in read_owners(values):
        edits.append(_turned_off(text, root, owner, source))
        expected = changed(expected, owner.keys, owner.value)
    return checked_text(applied(text, edits), changed(expected, keys, {"enabled": True, **block}), source)


def _turned_off(text: str, root: Span, owner: Owner, source: str) -> Edit:
    """Another value in the place of the owner's, or one more member in a mapping that has none."""
    span, around = root.at(*owner.keys), root.at(*owner.keys[:-1])
    if span is not None:
        return replaced(span, scalar(owner.value))
    added = None if around is None else added_members(text, around, [f"{owner.keys[-1]}: {scalar(owner.value)}"])
    if added is None:
        raise ConfigError([_elsewhere(owner, source)])
    return added


def _blank_line(text: str, place: Span) -> list[str]:
    """One before the section, unless a block scalar ends there: it may keep the blank lines that follow it."""
    return [] if text[: place.end].endswith("\n") else [""]


def _in_one_line(told: str) -> str:
    """A name in the file may hold anything, also what would end a comment."""
    return "".join(character if character.isprintable() else "?" for character in told)


def _numbers(facts: TrainingFacts) -> Numbers:
    length, clip, scheduler, between = facts.length, facts.clip, facts.scheduler, facts.validation_steps
    return Numbers(
        steps=facts.steps,
        batch_size=None if length.batch_size is None else length.batch_size.value,
        rate=facts.rate,
        clip_norm=None if clip is None else float(clip.value),
        scheduler_type=None if scheduler is None else scheduler.type.value,
        scheduler_params={} if scheduler is None else scheduler.arguments,
        validation_steps=None if between is None else between.value,
        metrics=None if facts.metrics is None else facts.metrics.value,
        no_validation=None if facts.no_validation is None else facts.no_validation.value,
    )


def _elsewhere(owner: Owner, source: str) -> Problem:
    got = "one that stands elsewhere, or none"
    return refused("a value that can be replaced", got, source, ".".join(owner.keys), owner.line)
