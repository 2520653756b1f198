"""What methods do to runs in which nothing is wrong, how runs fail, and roughly what methods cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.scenarios import Family
from benchmarks.scoring.judging import Failure, Run
from benchmarks.scoring.pairs import PLAIN

__all__ = ["Interventions", "failures", "interventions", "relative_seconds"]


@dataclass(frozen=True, kw_only=True)
class Interventions:
    """Of a method, on clean runs: false alarms.

    Args:
        method: Its name.
        runs: Clean runs behind the figures.
        changes: Adjustments per run, by automation of ours; empty for peers.
        clipped: Share of all steps whose gradient was made smaller; None without steps.
        skipped: Share of all steps that left the weights alone; None without steps.
        own_errors: Automations of ours that failed in these runs, in total.
    """

    method: str
    runs: int
    changes: Mapping[str, float]
    clipped: float | None
    skipped: float | None
    own_errors: int


def interventions(runs: Iterable[Run], methods: Sequence[str]) -> list[Interventions]:
    """One entry for each method that has clean runs."""
    clean = [run for run in runs if run.scenario.family is Family.CLEAN]
    by_method = {method: [run for run in clean if run.method == method] for method in methods}
    return [_interventions(method, own) for method, own in by_method.items() if own]


def _interventions(method: str, runs: Sequence[Run]) -> Interventions:
    outcomes = [run.outcome for run in runs]
    steps = sum(outcome.steps for outcome in outcomes)
    changes: Counter[str] = Counter()
    for outcome in outcomes:
        changes.update(outcome.changes)
    return Interventions(
        method=method,
        runs=len(outcomes),
        changes={automation: changes[automation] / len(outcomes) for automation in sorted(changes)},
        clipped=sum(outcome.clipped_steps for outcome in outcomes) / steps if steps else None,
        skipped=sum(outcome.skipped_steps for outcome in outcomes) / steps if steps else None,
        own_errors=sum(outcome.own_errors for outcome in outcomes),
    )


def relative_seconds(runs: Iterable[Run], method: str) -> tuple[float | None, int]:
    """Wall-clock time of a run as a multiple of plain Lightning's in the same cell: the median, and of how many pairs.

    Only pairs in which both end well count: a run that raises is a short one.
    """
    ended = [run for run in runs if run.outcome.ended_well and run.outcome.seconds > 0]
    own = {run.pair: run.outcome.seconds for run in ended if run.method == method}
    plain = {run.pair: run.outcome.seconds for run in ended if run.method == PLAIN}
    ratios = [own[pair] / plain[pair] for pair in own.keys() & plain.keys()]
    return (median(ratios) if ratios else None), len(ratios)


def failures(runs: Iterable[Run], methods: Sequence[str]) -> Mapping[str, Counter[Failure]]:
    """By method: how many runs failed for which reason."""
    counts: dict[str, Counter[Failure]] = {method: Counter() for method in methods}
    for run in runs:
        if run.failure is not None and run.method in counts:
            counts[run.method][run.failure] += 1
    return counts
