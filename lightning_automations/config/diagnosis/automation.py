"""What holds for every automation: whether it is there, valid, turned on, and named once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from lightning_automations.config.analysis.facts import FileKind, TrainingFacts, WrittenAutomation
from lightning_automations.config.diagnosis.finding import Change, Finding, Status, Subject
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.errors import Problem
from lightning_automations.core.settings import AutomationSettings, RunLength

__all__ = [
    "EARLY_STEPS",
    "automation_subject",
    "decided_often",
    "effective",
    "finding_at",
    "how_to_add",
    "problems_of",
    "registered_subject",
    "run_length",
    "spent_early",
]

S = TypeVar("S", bound=AutomationSettings)
Traps = Callable[[TrainingFacts, WrittenAutomation, S], Iterable[Finding]]

EARLY_STEPS = 1000
"""A budget that may be used up before this step leaves the rest of a longer run to the fallback."""


def finding_at(facts: TrainingFacts, path: str, *, found: str, why: str, mend: str, **more: Any) -> Finding:
    """A finding about the setting at a dotted path.

    Args:
        facts: About the file.
        path: Of the setting.
        found: What is there.
        why: Why it matters.
        mend: What to do.
        more: ``status``, where it is not ``partly``; ``note``; and ``value``, which mends it where it is written there.
    """
    if "value" in more:
        more["change"] = Change(path, more.pop("value"))
    finding = Finding(status=Status.PARTLY, path=path, line=facts.line(path), found=found, why=why, mend=mend)
    return replace(finding, **more)


def automation_subject(
    facts: TrainingFacts, kind: type[S], *, old_style: Iterable[Finding], why: str, traps: Traps[S]
) -> Subject:
    """How one automation stands.

    Args:
        facts: About the file.
        kind: Its settings.
        old_style: What the file has in its place, where it has no such automation.
        why: Why it matters, where the file has nothing.
        traps: What is valid and yet wrong, given the automation and the settings that hold in the run.
    """
    name, written = kind.automation, facts.automation(kind)
    if written is None:
        found = tuple(old_style) or (_missing(facts, name, why),)
        if facts.automations:  # whoever names some may mean it
            found = tuple(replace(one, note=True, mend=f"Name {name} beside them, if it is missed.") for one in found)
        return Subject(name=name, present=found[0].found, findings=found)
    settings = effective(facts, written)
    present = f"{written.path} is there" + ("" if written.enabled else ", turned off")
    problems = problems_of(facts, written)
    if problems or not isinstance(settings, kind):
        invalid = tuple(Finding.of_problem(problem) for problem in problems)
        return Subject(name=name, present=f"{present}, and not valid", findings=invalid)
    if not written.enabled:
        return Subject(name=name, present=present, findings=(_turned_off(facts, written, why),))
    found = (*_twice(facts, kind), *_does_nothing(facts, written, settings), *traps(facts, written, settings))
    return Subject(name=name, present=present, findings=found)


def registered_subject(facts: TrainingFacts, kind: type[AutomationSettings]) -> Subject:
    """How an automation of someone else stands in a file that names it: what is wrong for any would be wrong for it."""
    why = f"what {kind.automation} watches is left as it is"
    return automation_subject(facts, kind, old_style=(), why=why, traps=lambda *_: ())


def effective(facts: TrainingFacts, written: WrittenAutomation) -> AutomationSettings | None:
    """The settings that hold in the run: counts that are not written are shortened to it. None: they are not valid."""
    if written.settings is None:
        return None
    return written.settings.fitted(run_length(facts), type(written.settings).names_written(written.written))


def problems_of(facts: TrainingFacts, written: WrittenAutomation) -> list[Problem]:
    """What is not valid in the settings of an automation that the file names."""
    if facts.section is not None and written.path == facts.section.path:
        return []  # a section that names none: what is wrong there is the section's
    return [
        problem
        for problem in facts.problems
        if problem.path == written.path or problem.path.startswith(f"{written.path}.")
    ]


def run_length(facts: TrainingFacts) -> RunLength:
    """Steps and epochs of the run, as far as they are known; an epoch that is begun counts."""
    steps, epochs = facts.length.steps, facts.length.epochs
    return RunLength(
        steps=None if steps is None else steps.value, epochs=None if epochs is None else -int(-epochs.value // 1)
    )


def spent_early(
    facts: TrainingFacts, written: WrittenAutomation, settings: AutomationSettings, *, every_steps: int, setting: str
) -> Iterator[Finding]:
    """A budget of adjustments that a change at every decision uses up at the beginning of the run.

    Args:
        facts: About the file.
        written: The automation.
        settings: Its settings.
        every_steps: Optimizer steps between two decisions.
        setting: Name of the setting that says so.
    """
    budget, length = settings.max_adjustments, facts.length.steps
    if not budget or budget * every_steps >= EARLY_STEPS:
        return
    if length is not None and length.value > EARLY_STEPS:
        often = decided_often(settings, steps=length.value, every_steps=every_steps)
        name, value = ("max_adjustments", None) if "max_adjustments" in written.written else (setting, often)
        yield finding_at(
            facts,
            joined(written.path, name),
            found=f"max_adjustments is {budget}, and a decision falls every {every_steps} steps ({setting})",
            why=f"the budget can be used up by step {budget * every_steps} of {length.value}; after it the fallback "
            "holds for the rest of the run",
            mend=f"Raise max_adjustments, null is no limit; or write {setting}: {often}.",
            value=value,
        )


def decided_often(settings: AutomationSettings, *, steps: int, every_steps: int) -> int:
    """Optimizer steps between decisions in a run of so many, at which the budget is not spent early.

    Args:
        settings: With the budget.
        steps: Of the run.
        every_steps: What would be right without a budget.
    """
    early = EARLY_STEPS if steps > EARLY_STEPS else 0
    return max(1, every_steps, -(-early // settings.max_adjustments) if settings.max_adjustments else 0)


def how_to_add(facts: TrainingFacts) -> str:
    """How a file gets automations."""
    if facts.kind is FileKind.LIGHTNING_CLI:
        return "Use AutomationsCLI and write the section, or name callbacks by class_path in trainer.callbacks."
    return "Run `lightning-automations migrate` on this file."


def _missing(facts: TrainingFacts, name: str, why: str) -> Finding:
    others = ", and others are named" if facts.automations else ""
    path = facts.section.path if facts.section is not None else ""
    return finding_at(
        facts, path, status=Status.MISSING, found=f"there is no {name}{others}", why=why, mend=how_to_add(facts)
    )


def _turned_off(facts: TrainingFacts, written: WrittenAutomation, why: str) -> Finding:
    return finding_at(
        facts,
        written.path,
        status=Status.WITHOUT_EFFECT,
        found="it is turned off",
        why=why,
        mend="Write enabled: true, or leave it off if that is meant.",
        note=True,
    )


def _twice(facts: TrainingFacts, kind: type[AutomationSettings]) -> Iterator[Finding]:
    first, *others = [automation for automation in facts.automations if automation.kind is kind and automation.enabled]
    for other in others:
        yield finding_at(
            facts,
            other.path,
            found=f"a second {kind.automation} beside the one at {first.path}",
            why="two of them change the same thing, each as if it were alone",
            mend="Remove one of them.",
        )


def _does_nothing(facts: TrainingFacts, written: WrittenAutomation, settings: AutomationSettings) -> Iterator[Finding]:
    if settings.max_adjustments == 0:
        yield finding_at(
            facts,
            joined(written.path, "max_adjustments"),
            status=Status.WITHOUT_EFFECT,
            found="max_adjustments is 0",
            why="it retires to its fallback as training starts",
            mend="Raise max_adjustments, or leave it out.",
        )
    if settings.dry_run:
        yield finding_at(
            facts,
            joined(written.path, "dry_run"),
            status=Status.WITHOUT_EFFECT,
            found="dry_run is true",
            why="it decides and records, and changes nothing",
            mend="Remove dry_run when you have seen enough.",
            note=True,
        )
