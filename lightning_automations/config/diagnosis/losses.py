"""How the weights of a loss with several terms are looked after."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_automations.config.analysis.facts import TrainingFacts
from lightning_automations.config.diagnosis.automation import finding_at
from lightning_automations.config.diagnosis.finding import Finding, Status, Subject
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings

__all__ = ["losses_subject"]

NAME = LossSchedulingSettings.automation


def losses_subject(facts: TrainingFacts) -> Subject:
    """How loss scheduling stands in a file."""
    terms = [" ".join([term.type, *([] if term.weight is None else [f"{term.weight:g}"])]) for term in facts.loss_terms]
    several = "s" if len(terms) > 1 else ""
    told = f"the loss has {len(terms)} term{several} ({', '.join(terms)})" if terms else "the file names no loss"
    older = facts.dynamic_loss_scheduling
    if older is not None:
        good = ", which calibrates itself: good" if older.value.get("auto_calibrate") is True else ""
        present = f"{told}; {older.path} is on{good}"
    else:
        present = told
    return Subject(name=NAME, present=present, findings=tuple(_findings(facts, len(terms))))


def _findings(facts: TrainingFacts, terms: int) -> Iterator[Finding]:
    older, written = facts.dynamic_loss_scheduling, facts.automation(LossSchedulingSettings)
    if older is not None and written is not None:
        yield finding_at(
            facts,
            older.path,
            found=f"{older.path} is on beside {NAME}",
            why="two of them choose the weights of the terms, each as if it were alone",
            mend="Turn one of them off.",
        )
    elif older is not None:
        has_section = facts.section is not None
        yield finding_at(
            facts,
            older.path,
            status=Status.PARTLY if has_section else Status.OLD_STYLE,
            found="loss scheduling stands outside of the automations, in the older way",
            why="it is the program's own: nothing here checks it, records it or takes it into account",
            mend=f"Keep it where it is, or name {NAME} in the section in its place."
            if has_section
            else "Add the section; loss scheduling may stay where it is.",
            note=has_section,
        )
    elif terms > 1 and written is None:
        yield finding_at(
            facts,
            facts.loss_terms[0].path,
            status=Status.MISSING,
            found=f"nothing balances the weights of {terms} terms",
            why="a weight that is off by a factor of ten makes a term all or nothing",
            mend=f"Compare the terms' sizes in a short run, or name {NAME} in the section.",
            note=True,
        )
