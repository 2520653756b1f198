"""Metrics that an automation watches and that validation does not compute."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from lightning_automations.config.analysis.facts import TrainingFacts, WrittenAutomation
from lightning_automations.config.diagnosis.automation import finding_at
from lightning_automations.config.diagnosis.finding import Finding, Status
from lightning_automations.config.yaml_tree import joined

__all__ = ["metric_not_computed"]

_ALIKE = 0.7
"""How much of two short names has to agree; ``loss`` and ``ssim`` share half of their letters."""


def metric_not_computed(
    facts: TrainingFacts, written: WrittenAutomation, metric: str | None, *, uses: bool = True
) -> Iterator[Finding]:
    """A metric that is named although the file's validation computes others, or nothing, or never runs.

    Args:
        facts: About the file.
        written: The automation.
        metric: Name of the metric that it watches; None: it looks for one.
        uses: Whether it watches one at all.
    """
    if not uses or _is_of_training(metric):
        return
    if facts.no_validation is not None:
        yield _never(facts, facts.no_validation.path, facts.no_validation.value)
        return
    if metric is None or facts.metrics is None or metric in facts.metrics.value:
        return
    if "monitor_metric" not in written.written and facts.metrics.value:
        return  # a default that is not logged makes it look for another
    computed = ", ".join(facts.metrics.value)
    is_prefixed = _last_word(metric) in map(_last_word, facts.metrics.value)
    why = "a metric that never comes says nothing about the run, and is an error where it is written"
    yield finding_at(
        facts,
        joined(written.path, "monitor_metric"),
        found=f"it watches {metric}, and validation computes {computed or 'nothing'} ({facts.metrics.path})",
        why=f"unless the program logs it under this name: {why}" if is_prefixed else why,
        mend=_nearest(metric, facts.metrics.value) or "Name one that is computed, or have this one computed.",
        note=is_prefixed,
    )


def _never(facts: TrainingFacts, path: str, reason: str) -> Finding:
    return finding_at(
        facts,
        path,
        status=Status.WITHOUT_EFFECT,
        found=f"no validation falls into the run: {reason}",
        why="a metric that never comes says nothing about the run",
        mend="Validate more often, or turn off what waits for validation.",
    )


def _is_of_training(metric: str | None) -> bool:
    """Whether it needs no validation: early stopping judges at the end of an epoch, too."""
    return metric is not None and "train" in metric.lower()


def _last_word(metric: str) -> str:
    """The name without its prefix, whichever way the two are joined: ``val/psnr``, ``val_psnr``, ``valid.psnr``."""
    return re.split(r"[/._]", metric)[-1]


def _nearest(metric: str, computed: tuple[str, ...]) -> str | None:
    """The question to ask about a misspelt name. What all begin with (``val/``) makes none of them alike."""
    names = {other.rpartition("/")[2].casefold(): other for other in computed}
    close = difflib.get_close_matches(metric.rpartition("/")[2].casefold(), names, n=1, cutoff=_ALIKE)
    return f"Did you mean {names[close[0]]!r}?" if close else None
