"""How gradients are clipped."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_automations.config.analysis.facts import TrainingFacts, WrittenAutomation
from lightning_automations.config.diagnosis.automation import (
    automation_subject,
    decided_often,
    finding_at,
    spent_early,
)
from lightning_automations.config.diagnosis.finding import Finding, Subject
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings

__all__ = ["clipping_subject"]

_WHY = "one exploding or non-finite gradient undoes hours of training"


def clipping_subject(facts: TrainingFacts) -> Subject:
    """How ``AdaptiveGradientClipping`` stands in a file."""
    return automation_subject(facts, GradientClippingSettings, old_style=_old_style(facts), why=_WHY, traps=_traps)


def _old_style(facts: TrainingFacts) -> Iterator[Finding]:
    if facts.clip is None:
        return
    at = "a fixed norm that the program chooses" if facts.clip.value is True else f"the fixed norm {facts.clip.value:g}"
    yield finding_at(
        facts,
        facts.clip.path,
        found=f"gradients are clipped at {at}, and no threshold adapts",
        why="a constant is too high for one loss and too low for another, and a non-finite step still reaches the "
        f"weights: {_WHY}",
        mend="Use AdaptiveGradientClipping and turn the fixed value off.",
    )


def _traps(facts: TrainingFacts, written: WrittenAutomation, settings: GradientClippingSettings) -> Iterator[Finding]:
    if facts.clip is not None:
        kept = "" if facts.clip.value is True else f"; write initial_threshold: {facts.clip.value:g} if it was right"
        yield finding_at(
            facts,
            facts.clip.path,
            found=f"{facts.clip.path} clips beside the automation",
            why="the fixed value acts after the automation, on gradients that it has clipped: the lower of the two "
            "holds",
            mend=f"Turn it off{kept}.",
            value=False if facts.clip.value is True else None,
        )
    yield from _clip_outside_bounds(facts, written, settings)
    yield from _fallback_outside_bounds(facts, written, settings)
    yield from spent_early(
        facts, written, settings, every_steps=settings.monitoring_frequency, setting="monitoring_frequency"
    )
    length = facts.length.steps
    if length is not None and settings.monitoring_frequency >= max(length.value, 2):  # 1 is the least
        often = decided_often(settings, steps=length.value, every_steps=min(10, length.value // 10))
        yield finding_at(
            facts,
            joined(written.path, "monitoring_frequency"),
            found=f"monitoring_frequency is {settings.monitoring_frequency} and the run has {length.value} steps",
            why="after the first few steps the threshold does not move any more",
            mend=f"Lower it, to {often} for instance.",
            value=often,
        )


def _clip_outside_bounds(
    facts: TrainingFacts, written: WrittenAutomation, settings: GradientClippingSettings
) -> Iterator[Finding]:
    """Only bounds that are written are absolute; the others make room."""
    value = None if facts.clip is None or facts.clip.value is True else facts.clip.value
    for bound, excluded in (
        ("min_threshold", value is not None and value < settings.min_threshold),
        ("max_threshold", value is not None and value > settings.max_threshold),
    ):
        if excluded and bound in written.written:
            yield finding_at(
                facts,
                joined(written.path, bound),
                found=f"{bound} is {getattr(settings, bound):g} and the file clips at {value:g} now",
                why="the threshold may never be where it is now",
                mend=f"Write a {bound} that leaves room for {value:g}.",
            )


def _fallback_outside_bounds(
    facts: TrainingFacts, written: WrittenAutomation, settings: GradientClippingSettings
) -> Iterator[Finding]:
    """As for the clip value of the file: only bounds that are written count."""
    threshold = settings.fallback_threshold
    for bound, excluded in (
        ("min_threshold", threshold < settings.min_threshold),
        ("max_threshold", threshold > settings.max_threshold),
    ):
        if excluded and {"fallback", bound} <= set(written.written):
            value = getattr(settings, bound)
            yield finding_at(
                facts,
                joined(joined(written.path, "fallback"), "threshold"),
                found=f"the fallback's threshold is {threshold:g} and {bound} is {value:g}",
                why="once it has retired it clips at a norm that it may not choose itself",
                mend=f"Write a threshold within the bounds, {value:g} for instance.",
                value=value,
            )
