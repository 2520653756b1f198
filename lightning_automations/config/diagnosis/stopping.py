"""How the run is ended."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_automations.config.analysis.facts import TrainingFacts, WrittenAutomation
from lightning_automations.config.diagnosis.automation import automation_subject, finding_at, run_length
from lightning_automations.config.diagnosis.finding import Finding, Status, Subject
from lightning_automations.config.diagnosis.metric import metric_not_computed
from lightning_automations.config.diagnosis.plateau import (
    plateau_out_of_reach,
    settings_in_the_way,
    several_validations,
)
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.metric_names import direction_from_name

__all__ = ["stopping_subject"]

_WHY = "a run that is over, or overfits, goes on to its last step"
_FEW_STEPS_PER_EPOCH = 100
"""Epochs of fewer optimizer steps are rare."""


def stopping_subject(facts: TrainingFacts) -> Subject:
    """How ``IntelligentEarlyStopping`` stands in a file."""
    return automation_subject(facts, EarlyStoppingSettings, old_style=_old_style(facts), why=_WHY, traps=_traps)


def _old_style(facts: TrainingFacts) -> Iterator[Finding]:
    for stopper in facts.stoppers:
        yield finding_at(
            facts,
            stopper.path,
            status=Status.OLD_STYLE,
            found=f"the run is stopped by {stopper.value}",
            why="a patience alone stops slow improvers too early, or late ones too late",
            mend="Use IntelligentEarlyStopping, which takes its place in the Trainer.",
        )


def _traps(facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings) -> Iterator[Finding]:
    yield from _obstacles(facts, written, settings)
    yield from _epochs_unknown(facts, written, settings)
    yield from plateau_out_of_reach(facts, written, settings)
    yield from _single_validation(facts, written, settings)
    yield from _never_waited_for(facts, written, settings)
    yield from _upside_down(facts, written, settings)
    yield from metric_not_computed(facts, written, settings.monitor_metric)
    for stopper in facts.stoppers:
        yield finding_at(
            facts,
            stopper.path,
            found=f"{stopper.value} is there beside the automation",
            why="two of them end the run, and the more impatient one decides",
            mend="Remove it; its settings have the same names here.",
        )


def _obstacles(facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings) -> Iterator[Finding]:
    """What keeps it from ever stopping this run, as it would say itself when training starts."""
    fitted = EarlyStoppingSettings().fitted(run_length(facts), written=())
    for obstacle in settings.obstacles(run_length(facts)):
        name = obstacle.split()[0]
        if name in settings.types():  # a plateau that takes too long is told with its cause
            lower = getattr(fitted, name)
            is_written = name in written.written
            lowered = "Name one or more, or leave it out: then all are used." if name == "criteria" else _LOWER
            yield finding_at(
                facts,
                joined(written.path, name) if is_written else written.path,
                status=Status.WITHOUT_EFFECT,
                found=obstacle,
                why="it can never stop this run" if is_written else "the run is too short for it to stop",
                mend=lowered if is_written else "Nothing has to be mended: it looks on.",
                note=not is_written,
                **({} if lower == getattr(settings, name) else {"value": lower}),  # a run of one step leaves no room
            )


_LOWER = "Lower it, or leave it out: what is not written is fitted to the run."


def _upside_down(
    facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings
) -> Iterator[Finding]:
    """A mode that says the opposite of the metric's name."""
    meant = direction_from_name(settings.monitor_metric)
    if settings.mode != "auto" and meant is not None and settings.mode != meant:
        yield finding_at(
            facts,
            joined(written.path, "mode"),
            found=f"mode is {settings.mode}, and {settings.monitor_metric} is by its name better when it is "
            f"{'higher' if meant == 'max' else 'lower'}",
            why="it would take every improvement for none, stop the run, and keep the worst weights as the best",
            mend=f"Write mode: {meant}, or leave it out; keep it if the name means something else here.",
            note=True,
        )


def _epochs_unknown(
    facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings
) -> Iterator[Finding]:
    """``min_epochs`` in a run that is counted in steps: whether it is ever reached depends on the number of samples."""
    length = facts.length
    if length.steps is None or length.epochs is not None or "min_epochs" not in written.written:
        return
    if settings.min_epochs == 0:
        return
    most = length.steps.value // settings.min_epochs
    per_step = length.samples_per_step
    samples = "" if per_step is None else f", {most * per_step} samples,"
    yield finding_at(
        facts,
        joined(written.path, "min_epochs"),
        found=f"min_epochs is {settings.min_epochs} and the run has {length.steps.value} steps",
        why=f"it can stop this run only if an epoch has fewer than {most} steps{samples} and the file does not tell",
        mend="Write min_epochs: 0, min_iterations says the same in steps; or say how many samples an epoch has with "
        "--samples.",
        note=most >= _FEW_STEPS_PER_EPOCH,
        value=0,
    )


def _never_waited_for(
    facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings
) -> Iterator[Finding]:
    """One of two waits that is longer than the run, while the other one may end it."""
    steps = facts.steps
    if steps is None or settings.shortest_wait >= steps:
        return
    for name in ("patience", "max_no_improvement"):
        if name in written.written and getattr(settings, name) >= steps:
            yield finding_at(
                facts,
                joined(written.path, name),
                found=f"{name} is {getattr(settings, name)} and the run has {steps} steps",
                why="it can never end this run; only the other wait can",
                mend="Lower it, or leave it out.",
                note=True,
            )


def _single_validation(
    facts: TrainingFacts, written: WrittenAutomation, settings: EarlyStoppingSettings
) -> Iterator[Finding]:
    """A patience that is over at the first validation after the best one."""
    between = facts.validation_steps
    if between is None or facts.no_validation is not None:
        return
    warmup = settings_in_the_way(facts, written, settings).get("warmup_iterations", settings.warmup_iterations)
    wait = several_validations(facts, steps_between=between.value, warmup_steps=warmup)
    for name in ("patience", "max_no_improvement"):
        if name in written.written and getattr(settings, name) <= between.value:
            yield finding_at(
                facts,
                joined(written.path, name),
                found=f"{name} is {getattr(settings, name)} and validation comes every {between.value} steps",
                why="a single validation without improvement ends the run",
                mend=f"Write several times {between.value}, or leave it out.",
                **({} if wait is None else {"value": wait}),
            )
