"""How the learning rate is looked after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from lightning_automations.config.analysis.facts import TrainingFacts, WrittenAutomation
from lightning_automations.config.diagnosis.automation import automation_subject, finding_at, spent_early
from lightning_automations.config.diagnosis.finding import Finding, Status, Subject
from lightning_automations.config.diagnosis.metric import metric_not_computed
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.learning_rate_settings import LearningRateSettings

__all__ = ["learning_rate_subject"]

_WHY = "a rate that is off, a plateau or a divergence then costs the rest of the run"
_HORIZONS = ("T_max", "total_steps", "total_iters")
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
        "`lightning-automations migrate` writes it, with the scheduler's numbers as the fallback.",
    )


def _traps(facts: TrainingFacts, written: WrittenAutomation, settings: LearningRateSettings) -> Iterator[Finding]:
    length = facts.length.steps
    # a patience of 1 is the least, and a run of one step has no shorter one
    if length is not None and settings.plateau_patience >= max(length.value, 2):
        yield finding_at(
            facts,
            joined(written.path, "plateau_patience"),
            found=f"plateau_patience is {settings.plateau_patience} and the run has {length.value} steps",
            why="no plateau is ever long enough to be one",
            mend=f"Lower it, to {max(1, length.value // 5)} for instance, or leave it out: then it fits the run.",
            value=max(1, length.value // 5),
        )
    yield from spent_early(facts, written, settings, every_steps=settings.plateau_patience, setting="plateau_patience")
    # the training loss makes up for a metric that nobody named
    needed = settings.monitor_metric is not None or not settings.monitor_loss
    yield from metric_not_computed(facts, written, settings.monitor_metric, uses=needed and settings.monitor_validation)
    yield from _two_owners(facts)
    params = settings.fallback.get("scheduler_params", {})
    yield from _horizon(facts, joined(written.path, "fallback"), params)
    yield from _lowest_rate(facts, joined(written.path, "fallback"), params)


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


def _horizon(facts: TrainingFacts, fallback: str, params: Mapping[str, Any]) -> Iterator[Finding]:
    """The fallback runs from where the automation retires: counted from there, it must not be over before the run."""
    length = facts.length.steps
    if length is None:
        return
    for name in _HORIZONS:
        count = params.get(name)
        if _is_number(count) and count != length.value:
            yield finding_at(
                facts,
                joined(joined(fallback, "scheduler_params"), name),
                found=f"{name} of the fallback is {count:g} and the run has {length.value} steps",
                why="the schedule is over, or starts to rise again, before the run ends"
                if count < length.value
                else "the schedule is made for a longer run",
                mend=f"Write {length.value}.",
                value=length.value,
            )
    milestones = params.get("milestones")
    if isinstance(milestones, list) and milestones and all(_beyond(one, length.value) for one in milestones):
        yield finding_at(
            facts,
            joined(joined(fallback, "scheduler_params"), "milestones"),
            found=f"all milestones of the fallback, {milestones}, lie beyond the run's {length.value} steps",
            why="the rate is never lowered",
            mend="Write milestones within the run; they count from where the automation retires.",
        )


def _lowest_rate(facts: TrainingFacts, fallback: str, params: Mapping[str, Any]) -> Iterator[Finding]:
    rates = [optimizer.rate for optimizer in facts.optimizers if optimizer.rate is not None]
    lowest = params.get("eta_min")
    if rates and _is_number(lowest) and lowest >= rates[0].value:
        yield finding_at(
            facts,
            joined(joined(fallback, "scheduler_params"), "eta_min"),
            found=f"eta_min of the fallback is {lowest:g} and the rate of {rates[0].path} is {rates[0].value:g}",
            why="the schedule leads to no lower rate than the one that the run starts with",
            mend=f"Write less than {rates[0].value:g}.",
        )


def _beyond(milestone: Any, steps: int) -> bool:
    return _is_number(milestone) and milestone >= steps


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
