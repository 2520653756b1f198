"""Metrics that an automation watches and that validation does not compute."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_automations.config.analysis.facts import TrainingFacts, WrittenAutomation
from lightning_automations.config.diagnosis.automation import finding_at
from lightning_automations.config.diagnosis.finding import Finding
from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.errors import nearest

__all__ = ["metric_not_computed"]


def metric_not_computed(
    facts: TrainingFacts, written: WrittenAutomation, metric: str | None, *, uses: bool = True
) -> Iterator[Finding]:
    """A metric that is named although the file's validation computes others, or nothing.

    Args:
        facts: About the file.
        written: The automation.
        metric: Name of the metric that it watches; None: it looks for one.
        uses: Whether it watches one at all.
    """
    if not uses or metric is None or facts.metrics is None or metric in facts.metrics.value:
        return
    if "monitor_metric" not in written.written and facts.metrics.value:
        return  # a default that is not logged makes it look for another
    computed = ", ".join(facts.metrics.value)
    yield finding_at(
        facts,
        joined(written.path, "monitor_metric"),
        found=f"it watches {metric}, and validation computes {computed or 'nothing'} ({facts.metrics.path})",
        why="a metric that never comes says nothing about the run, and is an error where it is written",
        mend=nearest(metric, facts.metrics.value) or "Name one that is computed, or have this one computed.",
    )
