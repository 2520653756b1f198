"""A table for the console, under 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.outcome import Outcome
from benchmarks.report.text import DASH, STUDY_TITLES, figure, share_text
from benchmarks.scoring import (
    CONTROL,
    GROUPS,
    PLAIN,
    MemoryRun,
    References,
    Run,
    compare,
    headline,
    judge,
    of_study,
    select,
)

__all__ = ["quick_table"]

_NAME_WIDTH = 44


def quick_table(
    *,
    outcomes: Iterable[Outcome],
    references: References,
    studies: Mapping[str, Sequence[str]],
    extra: Sequence[MemoryRun] = (),
) -> str:
    """Successes, rescued and harmed of every method, study by study; the held-out task is left to RESULTS.md.

    Args:
        outcomes: Of any part of the scoreboard.
        references: For each task and optimizer that occurs.
        studies: Names of the methods of the studies ``clipping``, ``rate`` and ``together``.
        extra: Runs with batches that may not fit memory: they count in the headline.

    Returns:
        Plain text.
    """
    runs = judge(outcomes, references)
    lines = [
        line
        for study in STUDY_TITLES
        if study in studies
        for line in _study(study, of_study(study, runs), studies[study])
    ]
    methods = [method for method in studies.get("together", ()) if method != CONTROL]
    lines.append("Headline: clean runs, faults and rates within the bounds, all tasks")
    lines += [
        f"  {found.method:<{_NAME_WIDTH}} {share_text(found.paired.successes, digits=1)}"
        for found in headline(runs, methods, extra=extra)
    ]
    return "\n".join(lines)


def _study(study: str, runs: Sequence[Run], methods: Sequence[str]) -> Iterator[str]:
    """A block for each group of scenarios that was run, all optimizers together."""
    for group in GROUPS[study]:
        here = select(runs, methods=[method for method in methods if method != CONTROL], group=group)
        if not here:
            continue
        yield f"{STUDY_TITLES[study]}, {group.name}, both optimizers"
        yield f"  {'method':<{_NAME_WIDTH}} {'succeeded':>10} {'rescued':>10} {'harmed':>10} {'no partner':>11}"
        present = [method for method in methods if any(run.method == method for run in here)]
        yield from (f"  {_row(here, method)}" for method in present)
        yield ""


def _row(runs: Sequence[Run], method: str) -> str:
    found = compare(runs, method)
    rescued, harmed = (DASH, DASH) if method == PLAIN else (figure(found.rescued), figure(found.harmed))
    name = method if len(method) <= _NAME_WIDTH else f"{method[: _NAME_WIDTH - 2]}.."
    return f"{name:<{_NAME_WIDTH}} {figure(found.successes):>10} {rescued:>10} {harmed:>10} {found.missing:>11}"
