"""The one pooled figure: the share of runs that succeed where the defaults can be expected to help."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.scoring.groups import of_study
from benchmarks.scoring.judging import Run
from benchmarks.scoring.pairs import PLAIN, Comparison, Share, compared, share

__all__ = ["HARM_BAR", "OVERHEAD_BAR_PERCENT", "SUCCESS_BAR", "Headline", "MemoryRun", "headline"]

SUCCESS_BAR = 0.925
"""The share has to be above it."""
HARM_BAR = 0.02
"""The share has to be at most this."""
OVERHEAD_BAR_PERCENT = 1.0
"""Of a step of 20 ms; the figure has to be below it."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A method on the frozen list: clean runs, faults and rates within the bounds, the held-out task included.

    Args:
        method: Its name.
        paired: All its runs beside plain Lightning, those with batches that do not fit memory included.
        extra: Batches that do not fit memory alone.
    """

    method: str
    paired: Comparison
    extra: Share


@dataclass(frozen=True)
class MemoryRun:
    """A run with a batch that may not fit memory.

    Args:
        method: Its name.
        pair: What it shares with the plain run that it is compared with.
        success: Whether it succeeded.
    """

    method: str
    pair: Hashable
    success: bool


def headline(runs: Iterable[Run], methods: Sequence[str], *, extra: Sequence[MemoryRun] = ()) -> list[Headline]:
    """One entry a method.

    Args:
        runs: All of them; those beyond the bounds are left out here.
        methods: Plain Lightning and the configurations of ours.
        extra: Runs with batches that may not fit memory.
    """
    within = [run for run in of_study("together", runs) if run.scenario.within_bounds]
    return [_headline(within, method, extra) for method in methods]


def _headline(runs: Sequence[Run], method: str, extra: Sequence[MemoryRun]) -> Headline:
    own, plain = (_successes(runs, extra, name) for name in (method, PLAIN))
    added = share(run.success for run in extra if run.method == method)
    if not added.total:
        # Chance is measured without them.
        plain = _successes(runs, (), PLAIN)
    return Headline(method=method, paired=compared(method, own, plain), extra=added)


def _successes(runs: Sequence[Run], extra: Sequence[MemoryRun], method: str) -> dict[Hashable, bool]:
    trained = {run.pair: run.success for run in runs if run.method == method}
    return trained | {("memory", run.pair): run.success for run in extra if run.method == method}
