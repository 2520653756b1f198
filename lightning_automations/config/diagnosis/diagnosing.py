"""All that can be said of a configuration, from the facts about it."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_automations.config.analysis.facts import FileKind, TrainingFacts
from lightning_automations.config.diagnosis.automation import finding_at, how_to_add, problems_of, registered_subject
from lightning_automations.config.diagnosis.batch_size import batch_size_subject
from lightning_automations.config.diagnosis.clipping import clipping_subject
from lightning_automations.config.diagnosis.finding import Diagnosis, Finding, Status, Subject
from lightning_automations.config.diagnosis.learning_rate import learning_rate_subject
from lightning_automations.config.diagnosis.losses import losses_subject
from lightning_automations.config.diagnosis.numbers import numbers_taken_for_texts
from lightning_automations.config.diagnosis.stopping import stopping_subject
from lightning_automations.config.names import REGISTERED, SECTION
from lightning_automations.core.errors import Problem

__all__ = ["diagnose"]

_AUTOMATIONS = (learning_rate_subject, batch_size_subject, clipping_subject, stopping_subject)


def diagnose(facts: TrainingFacts) -> Diagnosis:
    """Judge a configuration.

    Args:
        facts: As ``read_facts`` gives them.

    Example:
        >>> from lightning_automations.config.analysis.facts import read_facts
        >>> diagnosis = diagnose(read_facts({"train": {"grad_clip": True}}))
        >>> {subject.name: subject.status.value for subject in diagnosis.subjects}["AdaptiveGradientClipping"]
        'partly'
    """
    registered = (registered_subject(facts, kind) for kind in REGISTERED if facts.automation(kind) is not None)
    ours = (*(subject(facts) for subject in _AUTOMATIONS), losses_subject(facts))
    subjects = (_section(facts), *ours, *registered)
    return Diagnosis(file=facts.document.file, subjects=subjects)


def _section(facts: TrainingFacts) -> Subject:
    """The section as a whole: there, readable, turned on, and read by the program."""
    listed = sum(automation.by_class_path for automation in facts.automations)
    if facts.section is not None:
        present = f"{facts.section.path} is there"
    else:
        present = f"{listed} of the callbacks in the trainer's list" if listed else "there is no such section"
    return Subject(name=SECTION, present=present, findings=tuple(_section_findings(facts, missing=not listed)))


def _section_findings(facts: TrainingFacts, *, missing: bool) -> Iterator[Finding]:
    for problem in _problems(facts):
        yield Finding.of_problem(problem)
    yield from numbers_taken_for_texts(facts)
    if facts.section is None:
        if missing:
            yield finding_at(
                facts,
                "",
                status=Status.MISSING,
                found=f"the section {SECTION} is missing",
                why="without it no automation is built from this file",
                mend=how_to_add(facts) if facts.hint is None or facts.kind is FileKind.LIGHTNING_CLI else facts.hint,
            )
    elif facts.section.value.get("enabled", True) is False:
        yield finding_at(
            facts,
            facts.section.path,
            status=Status.WITHOUT_EFFECT,
            found="the section is turned off",
            why="no automation is built",
            mend="Write enabled: true, or leave it off if that is meant.",
            note=True,
        )
    elif facts.kind is FileKind.LIGHTNING_CLI:
        yield finding_at(
            facts,
            facts.section.path,
            found="a file of LightningCLI with a section of its own",
            why="LightningCLI itself refuses keys that it does not know",
            mend="Use AutomationsCLI in the place of LightningCLI, or name the callbacks in trainer.callbacks.",
            note=True,
        )


def _problems(facts: TrainingFacts) -> list[Problem]:
    """Those that belong to no automation that was recognized."""
    told = [problem for automation in facts.automations for problem in problems_of(facts, automation)]
    return [problem for problem in facts.problems if problem not in told]
