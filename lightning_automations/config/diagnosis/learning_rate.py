"""How the learning rate is looked after."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_automations.config.analysis.facts import Scheduler, TrainingFacts, WrittenAutomation
from lightning_automations.config.analysis.fallback import own_fallback
from lightning_automations.config.diagnosis.automation import (
    automation_subject,
    decided_often,
    finding_at,
    spent_early,
)
from lightning_automations.config.diagnosis.fallback import fallback_traps, own_schedule_traps
from lightning_automations.config.diagnosis.finding import Finding, Status, Subject
from lightning_automations.config.diagnosis.metric import metric_not_computed
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.learning_rate_settings import LearningRateSettings

__all__ = ["learning_rate_subject"]

_WHY = "a rate that is off, a plateau or a divergence then costs the rest of the run"
_PLATEAU = ("reducelronplateau", "plateau")


def learning_rate_subject(facts: TrainingFacts) -> Subject:
    """How ``IntelligentLearningRateScheduler`` stands in a file."""
    return automation_subject(facts, LearningRateSettings, old_style=_old_style(facts), why=_WHY, traps=_traps)


def _old_style(facts: TrainingFacts) -> Iterator[Finding]:
    if facts.scheduler is None:
        return
    kind, milestones = facts.scheduler.type, facts.scheduler.arguments.get("milestones")
    at = f" with fixed milestones {milestones}" if isinstance(milestones, list) else ""
    yield finding_at(
        facts,
        kind.path,
        status=Status.OLD_STYLE,
        found=f"the rate follows {kind.value}{at}, and nothing adapts it",
        why=f"a schedule that is fixed in advance does not see the run: {_WHY}",
        mend="Add IntelligentLearningRateScheduler. The scheduler may stay, the automation's factor is on top of it; "
        f"`lightning-automations migrate` writes it, {_as_fallback(facts, facts.scheduler)}.",
    )
    yield from own_schedule_traps(facts)


def _as_fallback(facts: TrainingFacts, scheduler: Scheduler) -> str:
    """What becomes of the scheduler when the section is written."""
    fallback = own_fallback(scheduler.type.value, scheduler.arguments, rate=facts.rate, steps=facts.steps)
    return "with the scheduler's numbers as the fallback" if fallback.lost is None else f"but {fallback.lost}"


def _traps(facts: TrainingFacts, written: WrittenAutomation, settings: LearningRateSettings) -> Iterator[Finding]:
    length = facts.length.steps
    # a patience of 1 is the least, and a run of one step has no shorter one
    if length is not None and settings.plateau_patience >= max(length.value, 2):
        patience = decided_often(settings, steps=length.value, every_steps=length.value // 5)
        yield finding_at(
            facts,
            joined(written.path, "plateau_patience"),
            found=f"plateau_patience is {settings.plateau_patience} and the run has {length.value} steps",
            why="no plateau is ever long enough to be one",
            mend=f"Lower it, to {patience} for instance, or leave it out: then it fits the run.",
            value=patience,
        )
    yield from spent_early(facts, written, settings, every_steps=settings.plateau_patience, setting="plateau_patience")
    # the training loss makes up for a metric that nobody named
    needed = settings.monitor_metric is not None or not settings.monitor_loss
    yield from metric_not_computed(facts, written, settings.monitor_metric, uses=needed and settings.monitor_validation)
    if settings.min_lr_factor == settings.max_lr_factor:
        yield finding_at(
            facts,
            joined(written.path, "min_lr_factor"),
            found=f"min_lr_factor and max_lr_factor are both {settings.min_lr_factor:g}",
            why="the factor never changes: only a run that diverges is brought back",
            mend="Write bounds that leave room, if more is meant.",
            note=True,
        )
    yield from own_schedule_traps(facts)
    yield from _two_owners(facts)
    yield from fallback_traps(facts, joined(written.path, "fallback"), settings.fallback)


def _two_owners(facts: TrainingFacts) -> Iterator[Finding]:
    if facts.scheduler is not None and facts.scheduler.type.value.lower() in _PLATEAU:
        yield finding_at(
            facts,
            facts.scheduler.type.path,
            found="the file's own scheduler lowers the rate on a plateau, too",
            why="two of them lower the rate for the same plateau",
            mend="Remove that scheduler.",
            note=True,
        )
    for finder in facts.rate_finders:
        yield finding_at(
            facts,
            finder.path,
            found=f"{finder.value} chooses the rate that the run starts with, too",
            why="the automation starts from what it finds, and tries lower rates itself",
            mend="Leave it out where find_start is on.",
            note=True,
        )
