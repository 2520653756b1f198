"""How much a learning rate that is off costs: what remains of the loss, averaged over the rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median

from benchmarks.scenarios import Family
from benchmarks.scoring.judging import Failure, Run
from benchmarks.scoring.pairs import PLAIN

__all__ = ["Sensitivity", "counted_loss", "sensitivities"]

Place = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Of a method on a task with an optimizer.

    Args:
        excess: By rate factor: how far the loss stays above the reference's, the median over the seeds.
        scale: Loss before training minus the reference's: what there is to win.
        complete: Whether the method has a run for each rate that plain Lightning has.
        runs: How many runs stand behind it.
    """

    excess: Mapping[float, float]
    scale: float
    complete: bool
    runs: int

    @property
    def mean(self) -> float | None:
        """Over the rates; None when a rate is missing, which would make it better or worse than it is."""
        return fmean(self.excess.values()) if self.complete and self.excess else None

    @property
    def relative(self) -> float | None:
        """0: as good as tuned at each rate; 1: nothing was learnt at any rate."""
        mean = self.mean
        return None if mean is None or self.scale <= 0 else mean / self.scale


def counted_loss(run: Run) -> float:
    """The loss at the end, at most that before training; a run that did not end well within its budget gets the latter.

    Raises:
        ValueError: If the loss before training is not known.
    """
    start, end = run.outcome.start_loss, run.outcome.test_loss
    if start is None:
        raise ValueError(f"expected a finite loss before training, got none in {run.outcome.cell}")
    if end is None or run.failure not in {None, Failure.BELOW_MARGIN}:
        return start
    return min(end, start)


def sensitivities(runs: Iterable[Run]) -> Mapping[Place, Mapping[str, Sensitivity]]:
    """By task and optimizer, then by method. Only the clean scenario and those with a wrong rate count."""
    listed = [run for run in runs if run.scenario.family in {Family.CLEAN, Family.RATE}]
    found: dict[Place, dict[str, Sensitivity]] = {}
    for place in sorted({run.place for run in listed}):
        here = [run for run in listed if run.place == place]
        expected = {run.scenario.rate_factor for run in here if run.method == PLAIN}
        found[place] = {
            method: _sensitivity([run for run in here if run.method == method], expected)
            for method in dict.fromkeys(run.method for run in here)
        }
    return found


def _sensitivity(runs: list[Run], expected: set[float]) -> Sensitivity:
    by_factor: dict[float, list[float]] = {}
    for run in runs:
        by_factor.setdefault(run.scenario.rate_factor, []).append(counted_loss(run) - run.reference.loss)
    return Sensitivity(
        excess={factor: median(by_factor[factor]) for factor in sorted(by_factor)},
        scale=median(run.outcome.start_loss - run.reference.loss for run in runs if run.outcome.start_loss is not None),
        complete=expected <= by_factor.keys(),
        runs=len(runs),
    )
