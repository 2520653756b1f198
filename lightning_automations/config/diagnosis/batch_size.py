"""How the batch and the memory that it needs are looked after."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_automations.config.analysis.facts import TrainingFacts, WrittenAutomation
from lightning_automations.config.diagnosis.automation import (
    automation_subject,
    decided_often,
    finding_at,
    spent_early,
)
from lightning_automations.config.diagnosis.finding import Finding, Status, Subject
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.batch_size_settings import BatchSizeSettings

__all__ = ["batch_size_subject"]

_WHY = "one batch that does not fit memory ends the run, at whatever hour it comes"


def batch_size_subject(facts: TrainingFacts) -> Subject:
    """How ``DynamicBatchSizeOptimizer`` stands in a file."""
    return automation_subject(facts, BatchSizeSettings, old_style=_old_style(facts), why=_WHY, traps=_traps)


def _old_style(facts: TrainingFacts) -> Iterator[Finding]:
    if facts.auto_vram_management is not None:
        yield finding_at(
            facts,
            facts.auto_vram_management.path,
            status=Status.OLD_STYLE,
            found="memory is looked after by auto_vram_management",
            why=f"it is another program's, and does not run a batch again that did not fit: {_WHY}",
            mend="Add DynamicBatchSizeOptimizer and turn auto_vram_management off.",
        )


def _traps(facts: TrainingFacts, written: WrittenAutomation, settings: BatchSizeSettings) -> Iterator[Finding]:
    yield from _beyond_memory(facts, written, settings)
    yield from _owners(facts)
    yield from _bounds(facts, written, settings)
    yield from spent_early(
        facts, written, settings, every_steps=settings.adjustment_frequency, setting="adjustment_frequency"
    )
    length = facts.length.steps
    if length is not None and settings.adjustment_frequency >= max(length.value, 2):  # 1 is the least
        often = decided_often(settings, steps=length.value, every_steps=length.value // 100)
        yield finding_at(
            facts,
            joined(written.path, "adjustment_frequency"),
            found=f"adjustment_frequency is {settings.adjustment_frequency} and the run has {length.value} steps",
            why="no decision is ever due: out-of-memory errors are survived, and memory is not filled",
            mend=f"Lower it, to {often} for instance.",
            value=often,
        )


def _beyond_memory(facts: TrainingFacts, written: WrittenAutomation, settings: BatchSizeSettings) -> Iterator[Finding]:
    target, margin = settings.target_vram_usage, settings.safety_margin
    if target + margin <= 1:
        return
    name, other = "target_vram_usage", margin
    if name not in written.written:
        name, other = "safety_margin", target
    value = round(1 - other, 6)
    yield finding_at(
        facts,
        joined(written.path, name),
        found=f"target_vram_usage {target:g} and safety_margin {margin:g} make more than all memory together",
        why="a target so near to all memory leaves no room for what varies from batch to batch",
        mend=f"Lower {name} to {value:g} at least; the band of safety_margin lies below the target.",
        value=value,
    )


def _owners(facts: TrainingFacts) -> Iterator[Finding]:
    """What else in the file chooses the batch."""
    if facts.auto_vram_management is not None:
        yield finding_at(
            facts,
            facts.auto_vram_management.path,
            found="auto_vram_management is on beside the automation",
            why="two of them choose the batch, each as if it were alone",
            mend="Turn auto_vram_management off.",
            value=False,
        )
    for owner in facts.batch_owners:
        yield finding_at(
            facts,
            owner.path,
            found=f"{owner.value} is there beside the automation",
            why="two of them choose the batch or the accumulation, each as if it were alone",
            mend="Remove it.",
        )


def _bounds(facts: TrainingFacts, written: WrittenAutomation, settings: BatchSizeSettings) -> Iterator[Finding]:
    """Bounds and fallback beside the batch size of the file."""
    batch, low, high = facts.length.batch_size, settings.min_batch_size, settings.max_batch_size
    if batch is not None and not low <= batch.value <= high:
        bound = "min_batch_size" if batch.value < low else "max_batch_size"
        yield finding_at(
            facts,
            joined(written.path, bound),
            found=f"{bound} is {getattr(settings, bound)} and {batch.path} is {batch.value}",
            why="the batch of the run lies outside of the bounds: it is left as it is, and can neither grow nor come "
            "back to where it was",
            mend=f"Write {bound}: {batch.value}.",
            value=batch.value,
        )
    size = settings.fallback.get("batch_size")
    if "fallback" in written.written and size is not None and not low <= size <= high:
        yield finding_at(
            facts,
            joined(joined(written.path, "fallback"), "batch_size"),
            found=f"the fallback's batch_size is {size}, and the bounds are {low} and {high}",
            why="once it has retired, pieces would be of a size that it may not choose itself",
            mend=f"Write a size from {low} to {high}.",
            value=min(max(size, low), high),
        )
