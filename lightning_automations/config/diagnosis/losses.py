"""How the weights of a loss with several terms are looked after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lightning_automations.config.analysis.facts import TrainingFacts, WrittenAutomation
from lightning_automations.config.diagnosis.automation import automation_subject, finding_at, spent_early
from lightning_automations.config.diagnosis.finding import Finding, Status, Subject
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings

__all__ = ["losses_subject"]

NAME = LossSchedulingSettings.automation
_WHY = "a weight that is off by a factor of ten makes a term all or nothing"


def losses_subject(facts: TrainingFacts) -> Subject:
    """How loss scheduling stands in a file."""
    terms = [" ".join([term.type, *([] if term.weight is None else [f"{term.weight:g}"])]) for term in facts.loss_terms]
    several = "s" if len(terms) > 1 else ""
    told = f"the loss has {len(terms)} term{several} ({', '.join(terms)})" if terms else "the file names no loss"
    older = facts.dynamic_loss_scheduling
    if older is not None:
        good = ", which calibrates itself: good" if older.value.get("auto_calibrate") is True else ""
        told += f"; {older.path} is on{good}"
    if facts.automation(LossSchedulingSettings) is not None:
        subject = automation_subject(facts, LossSchedulingSettings, old_style=(), why=_WHY, traps=_traps)
        return replace(subject, present=f"{subject.present}; {told}")
    found = _nothing_balances(facts) if older is None else (_old_style(facts, older.path),)
    return Subject(name=NAME, present=told, findings=tuple(found))


def _old_style(facts: TrainingFacts, path: str) -> Finding:
    has_section = facts.section is not None
    return finding_at(
        facts,
        path,
        status=Status.PARTLY if has_section else Status.OLD_STYLE,
        found="loss scheduling stands in its older place, outside of the section",
        why=f"{NAME} is built from there, for a module that has loss_weights; a program with its own reads it too",
        mend=f"Move it into the section as {NAME}; or keep it where it is, if it is the program's own."
        if has_section
        else f"Add the section, with {NAME} in it; or keep loss scheduling where it is.",
        note=has_section,
    )


def _nothing_balances(facts: TrainingFacts) -> Iterator[Finding]:
    if len(facts.loss_terms) > 1:
        yield finding_at(
            facts,
            facts.loss_terms[0].path,
            status=Status.MISSING,
            found=f"nothing balances the weights of {len(facts.loss_terms)} terms",
            why=_WHY,
            mend=f"Compare the terms' sizes in a short run, or name {NAME} in the section.",
            note=True,
        )


def _traps(facts: TrainingFacts, written: WrittenAutomation, settings: LossSchedulingSettings) -> Iterator[Finding]:
    older = facts.dynamic_loss_scheduling
    if older is not None:
        yield finding_at(
            facts,
            older.path,
            found=f"{older.path} is on beside {NAME}",
            why="the section wins, and it is not read; a program with its own would weigh the terms a second time",
            mend="Take the older one out.",
        )
    if len(facts.loss_terms) == 1:
        yield finding_at(
            facts,
            facts.loss_terms[0].path,
            found="the loss has a single term",
            why="there is nothing to balance",
            mend=f"Leave {NAME} out, unless the module makes several terms of it.",
            note=True,
        )
    yield from _too_late(facts, written, settings)
    yield from spent_early(
        facts, written, settings, every_steps=settings.adaptation_frequency, setting="adaptation_frequency"
    )


def _too_late(facts: TrainingFacts, written: WrittenAutomation, settings: LossSchedulingSettings) -> Iterator[Finding]:
    """Counts of steps after which the run is over."""
    length = facts.length.steps
    for name in settings.shares_of_steps:
        count = getattr(settings, name)
        if length is not None and name in written.written and count >= max(length.value, 2):  # 1 is the least
            yield finding_at(
                facts,
                joined(written.path, name),
                status=Status.WITHOUT_EFFECT,
                found=f"{name} is {count} and the run has {length.value} steps",
                why="the run is over before a weight is adapted",
                mend="Lower it, or leave it out: what is not written is fitted to the run.",
                value=max(1, length.value // 20),
            )
