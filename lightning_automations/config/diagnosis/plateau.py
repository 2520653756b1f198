"""A plateau that cannot end the run, and which of the settings is to blame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lightning_automations.config.analysis.facts import TrainingFacts, WrittenAutomation
from lightning_automations.config.analysis.patience import (
    VALIDATIONS_OF_PATIENCE,
    earliest_stop,
    patience_of_validations,
)
from lightning_automations.config.diagnosis.automation import finding_at, run_length
from lightning_automations.config.diagnosis.finding import Finding, Status
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings

__all__ = ["plateau_out_of_reach", "settings_in_the_way", "several_validations"]

_WAITS = ("patience", "max_no_improvement")
_SHARE_OF_RUN = 5
"""A patience of a fifth of the run leaves room for what comes before and after it."""


def plateau_out_of_reach(
    facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings
) -> Iterator[Finding]:
    """Patience, warm-up and minimum that leave no validation at which a plateau could end the run.

    The settings that are written are lowered one after the other, until a plateau has room; each of these is a finding,
    so that all of them together mend it. One at or above the run's length is told of elsewhere.

    Args:
        facts: About the file.
        written: The automation.
        settings: The settings that hold in the run.
    """
    length = facts.length.steps
    if length is None or facts.no_validation is not None or not settings.uses("plateau"):
        return
    status = Status.WITHOUT_EFFECT if settings.criteria == ("plateau",) else Status.PARTLY
    if _fits(facts, settings, length.value):
        return
    if _sound_values(facts, length.value) is None:
        yield _too_rare(facts, written, length.value)
        return
    for name, lower in settings_in_the_way(facts, written, settings).items():
        if name in _WAITS or getattr(settings, name) < length.value:
            yield replace(_blamed(facts, written, settings, name, lower, length.value), status=status)
        settings = replace(settings, **{name: lower})  # type: ignore[arg-type]  # names of settings


def settings_in_the_way(
    facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings
) -> dict[str, int]:
    """The settings that have to be lowered until a plateau has room, and to what; none where that is of no help.

    Args:
        facts: About the file.
        written: The automation.
        settings: The settings that hold in the run.
    """
    length = facts.length.steps
    sound = None if length is None else _sound_values(facts, length.value)
    if length is None or sound is None:
        return {}
    lowered: dict[str, int] = {}
    for name in (_WAITS[settings.patience > settings.max_no_improvement], "warmup_iterations", "min_iterations"):
        if (
            name in written.written
            and getattr(settings, name) > sound[name]
            and not _fits(facts, settings, length.value)
        ):
            lowered[name] = sound[name]
            settings = replace(settings, **{name: sound[name]})  # type: ignore[arg-type]  # names of settings
    return lowered


def several_validations(facts: TrainingFacts, *, steps_between: int, warmup_steps: int) -> int | None:
    """A patience of several validations; None where the run has no room for it.

    Args:
        facts: About the file.
        steps_between: Steps between validations.
        warmup_steps: Steps before which nothing is judged.
    """
    if facts.length.steps is None:
        return VALIDATIONS_OF_PATIENCE * steps_between
    steps = facts.length.steps.value
    return patience_of_validations(steps=steps, steps_between=steps_between, warmup_steps=warmup_steps)


def _sound_values(facts: TrainingFacts, steps: int) -> dict[str, int] | None:
    """What patience, warm-up and minimum may be at most, so that a plateau surely has room; None: it never has."""
    fitted = EarlyStoppingSettings().fitted(run_length(facts), written=())
    wait: int | None = max(1, steps // _SHARE_OF_RUN)
    between = facts.validation_steps
    if between is not None and between.value >= steps // _SHARE_OF_RUN:
        wait = several_validations(facts, steps_between=between.value, warmup_steps=fitted.warmup_iterations)
    if wait is None:
        return None
    sound = replace(fitted, patience=wait, max_no_improvement=wait)
    return {name: getattr(sound, name) for name in sound.shares_of_steps} if _fits(facts, sound, steps) else None


def _fits(facts: TrainingFacts, settings: EarlyStoppingSettings, steps: int) -> bool:
    """Whether a plateau can end the run before its last step."""
    stop = earliest_stop(
        warmup_steps=settings.warmup_iterations,
        wait_steps=settings.shortest_wait,
        least_steps=settings.min_iterations,
        steps_between=1 if facts.validation_steps is None else facts.validation_steps.value,
    )
    return stop < steps


def _too_rare(facts: TrainingFacts, written: WrittenAutomation, steps: int) -> Finding:
    between = facts.validation_steps
    rare = "" if between is None else f"validation comes every {between.value} steps, and "
    return finding_at(
        facts,
        written.path if between is None else between.path,
        status=Status.WITHOUT_EFFECT,
        found=f"{rare}the run has {steps} steps",
        why="no patience leaves room for a plateau to end this run",
        mend="Validate more often, or turn early stopping off with enabled: false.",
    )


def _blamed(
    facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings, name: str, lower: int, steps: int
) -> Finding:
    between = facts.validation_steps
    validation = "" if between is None else f", validation comes every {between.value}"
    told = (
        f"a plateau takes {settings.shortest_wait} steps after the warm-up of {settings.warmup_iterations}"
        if name in _WAITS
        else f"{name} is {getattr(settings, name)}, a plateau takes {settings.shortest_wait} steps"
    )
    return finding_at(
        facts,
        joined(written.path, name),
        found=f"{told}{validation}, and the run has {steps}",
        why="no plateau can end this run",
        mend=f"Lower it, to {lower} for instance, or leave it out.",
        value=lower,
    )
