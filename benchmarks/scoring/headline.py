"""The one pooled figure: the share of runs that succeed where the defaults can be expected to help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.scoring.judging import Run
from benchmarks.scoring.pairs import Comparison, Share, compare, share

__all__ = ["HARM_BAR", "OVERHEAD_BAR_PERCENT", "SUCCESS_BAR", "Headline", "headline"]

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
        successes: Of training runs and of batches that do not fit memory, together.
        paired: The training runs beside plain Lightning.
        extra: Batches that do not fit memory alone.
    """

    method: str
    successes: Share
    paired: Comparison
    extra: Share


def headline(runs: Iterable[Run], methods: Sequence[str], *, extra: Sequence[tuple[str, bool]] = ()) -> list[Headline]:
    """One entry a method.

    Args:
        runs: All of them; those beyond the bounds are left out here.
        methods: Plain Lightning and the configurations of ours.
        extra: Method and success of each run with a batch that does not fit memory.
    """
    within = [run for run in runs if run.scenario.within_bounds]
    return [_headline(within, method, [success for name, success in extra if name == method]) for method in methods]


def _headline(runs: Sequence[Run], method: str, extra: Sequence[bool]) -> Headline:
    paired, added = compare(runs, method), share(extra)
    successes = Share(paired.successes.count + added.count, paired.successes.total + added.total)
    return Headline(method=method, successes=successes, paired=paired, extra=added)
