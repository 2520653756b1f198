"""Schedules whose numbers were made for another run: the fallback, and the file's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from lightning_automations.config.analysis.facts import TrainingFacts
from lightning_automations.config.diagnosis.automation import finding_at
from lightning_automations.config.diagnosis.finding import Finding
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.learning_rate_settings import LearningRateFallback

__all__ = ["fallback_traps", "own_schedule_traps"]

_HORIZONS = ("T_max", "total_steps", "total_iters", "T_0")
_WARM_UPS = ("linearlr", "constantlr")
"""With an end factor of 1 they lead to the rate itself, and keep it: an end long before that of the run is meant."""


def fallback_traps(facts: TrainingFacts, path: str, fallback: LearningRateFallback) -> Iterator[Finding]:
    """What is valid and yet wrong in a fallback. It runs from where the automation retires to the end of the run.

    Args:
        facts: About the file.
        path: Dotted path of the fallback.
        fallback: Its type and arguments.
    """
    arguments = joined(path, "scheduler_params")
    kind, params = fallback.get("scheduler_type", ""), fallback.get("scheduler_params", {})
    if facts.length.steps is not None:
        steps = facts.length.steps.value
        for name in _HORIZONS:
            if _is_number(params.get(name)) and _is_of_another_run(kind, name, params, steps):
                yield _horizon(facts, joined(arguments, name), name, params[name], steps)
        yield from _one_cycle(facts, arguments, params, steps)
        yield from _never_lowered(facts, arguments, params, steps)
    yield from _lowest_rate(facts, arguments, params)


def own_schedule_traps(facts: TrainingFacts) -> Iterator[Finding]:
    """Notes about a scheduler of the file that was made for a longer run, in whichever unit it counts.

    A trainer of image restoration counts in steps, LightningCLI in epochs unless it is told otherwise: a count is only
    told of where it is beyond both.

    Args:
        facts: About the file.
    """
    scheduler, steps = facts.scheduler, facts.steps
    if scheduler is None or steps is None:
        return
    for name in ("T_max", "total_iters", "total_steps", "step_size"):
        count = scheduler.arguments.get(name)
        if _is_number(count) and count > steps:
            yield _beyond(facts, joined(scheduler.arguments_path, name), f"{name} is {count:g}", steps)
    milestones = scheduler.arguments.get("milestones")
    if isinstance(milestones, list) and milestones and all(_is_number(one) and one >= steps for one in milestones):
        yield _beyond(facts, joined(scheduler.arguments_path, "milestones"), f"milestones are {milestones}", steps)


def _beyond(facts: TrainingFacts, path: str, told: str, steps: int) -> Finding:
    return finding_at(
        facts,
        path,
        found=f"the scheduler's {told} and the run has {steps} steps",
        why="the run ends before the schedule does, at a rate that was meant to fall further",
        mend="Fit it to the run.",
        note=True,
    )


def _is_of_another_run(kind: str, name: str, params: Mapping[str, Any], steps: int) -> bool:
    if params[name] > steps:
        return True
    if name == "T_0" or (name == "total_iters" and _is_warm_up(kind, params)):
        return False  # restarts and warm-ups are shorter than a run
    return bool(params[name] < steps)


def _is_warm_up(kind: str, params: Mapping[str, Any]) -> bool:
    end = params.get("end_factor", 1.0)
    return kind.lower() in _WARM_UPS and _is_number(end) and end == 1


def _horizon(facts: TrainingFacts, path: str, name: str, count: float, steps: int) -> Finding:
    return finding_at(
        facts,
        path,
        found=f"{name} of the fallback is {count:g} and the run has {steps} steps",
        why="the schedule is over, or starts to rise again, before the run ends"
        if count < steps
        else "the schedule is made for a longer run",
        mend=f"Write {steps}.",
        value=steps,
    )


def _one_cycle(facts: TrainingFacts, arguments: str, params: Mapping[str, Any], steps: int) -> Iterator[Finding]:
    """A cycle whose length is given in two parts; torch takes ``total_steps`` where it is written."""
    epochs, each = params.get("epochs"), params.get("steps_per_epoch")
    if params.get("total_steps") is None and _is_number(epochs) and _is_number(each) and epochs * each != steps:
        yield finding_at(
            facts,
            joined(arguments, "epochs"),
            found=f"epochs times steps_per_epoch of the fallback is {epochs * each:g} and the run has {steps} steps",
            why="the cycle is made for another run",
            mend=f"Write total_steps: {steps} in their place.",
        )


def _never_lowered(facts: TrainingFacts, arguments: str, params: Mapping[str, Any], steps: int) -> Iterator[Finding]:
    """Steps of the rate that all lie beyond the run."""
    size, milestones = params.get("step_size"), params.get("milestones")
    if _is_number(size) and size >= steps:
        yield finding_at(
            facts,
            joined(arguments, "step_size"),
            found=f"step_size of the fallback is {size:g} and the run has {steps} steps",
            why="the rate is never lowered",
            mend="Write a part of the run; it counts from where the automation retires.",
        )
    if isinstance(milestones, list) and milestones and all(_is_number(one) and one >= steps for one in milestones):
        yield finding_at(
            facts,
            joined(arguments, "milestones"),
            found=f"all milestones of the fallback, {milestones}, lie beyond the run's {steps} steps",
            why="the rate is never lowered",
            mend="Write milestones within the run; they count from where the automation retires.",
        )


def _lowest_rate(facts: TrainingFacts, arguments: str, params: Mapping[str, Any]) -> Iterator[Finding]:
    rates = [optimizer.rate for optimizer in facts.optimizers if optimizer.rate is not None]
    lowest = params.get("eta_min")
    if rates and _is_number(lowest) and lowest >= rates[0].value:
        yield finding_at(
            facts,
            joined(arguments, "eta_min"),
            found=f"eta_min of the fallback is {lowest:g} and the rate of {rates[0].path} is {rates[0].value:g}",
            why="the schedule leads to no lower rate than the one that the run starts with",
            mend=f"Write less than {rates[0].value:g}.",
        )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
