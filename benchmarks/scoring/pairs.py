"""Rescue and harm: each run beside the plain run of the same task, optimizer, scenario and seed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from benchmarks.scoring.judging import Run

__all__ = ["PLAIN", "Comparison", "Share", "compare", "compared", "matrix", "only_shared", "share"]

PLAIN = "plain"
"""The method with which all others are paired: plain Lightning."""


@dataclass(frozen=True)
class Share:
    """So many of so many.

    Args:
        count: 0 to ``total``.
        total: 0 or more. A share of nothing has neither a value nor an interval.
    """

    count: int
    total: int

    @property
    def value(self) -> float | None:
        """Between 0 and 1."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval of 95 %."""
        if not self.total:
            return None
        found = binomtest(self.count, self.total).proportion_ci(confidence_level=0.95, method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A method beside plain Lightning.

    Args:
        method: Its name.
        successes: Among all its runs.
        rescued: Successes among the runs whose plain partner fails.
        harmed: Failures among the runs whose plain partner succeeds.
        missing: Runs, of the method or of plain Lightning, whose partner is not there. They count neither as rescued
            nor as harmed.
    """

    method: str
    successes: Share
    rescued: Share
    harmed: Share
    missing: int


def share(flags: Iterable[bool]) -> Share:
    """How many of them are true."""
    listed = list(flags)
    return Share(sum(listed), len(listed))


def compare(runs: Iterable[Run], method: str) -> Comparison:
    """Pair the runs of a method with those of plain Lightning.

    Args:
        runs: Of one table: every plain run among them is expected to have a partner.
        method: Name of the method; plain Lightning itself rescues and harms nothing.
    """
    listed = list(runs)
    own, plain = ({run.pair: run.success for run in listed if run.method == name} for name in (method, PLAIN))
    return compared(method, own, plain)


def compared(method: str, own: Mapping[Hashable, bool], plain: Mapping[Hashable, bool]) -> Comparison:
    """Whether runs succeeded, beside plain Lightning.

    Args:
        method: Its name.
        own: Success of its runs, by what a run shares with its partner.
        plain: Likewise, of plain Lightning.
    """
    shared = own.keys() & plain.keys()
    return Comparison(
        method=method,
        successes=share(own.values()),
        rescued=share(own[pair] for pair in shared if not plain[pair]),
        harmed=share(not own[pair] for pair in shared if plain[pair]),
        missing=len(own.keys() ^ plain.keys()),
    )


def only_shared(runs: Iterable[Run], methods: Sequence[str]) -> list[Run]:
    """The runs of some methods in the cells that all of them have."""
    listed = [run for run in runs if run.method in methods]
    pairs = [{run.pair for run in listed if run.method == method} for method in methods]
    shared = set.intersection(*pairs) if pairs else set()
    return [run for run in listed if run.pair in shared]


def matrix(runs: Iterable[Run], column: Callable[[Run], str]) -> Mapping[str, Mapping[str, Share]]:
    """Successes of every method in every column.

    Args:
        runs: Of one table.
        column: In which column a run is counted.

    Returns:
        By method, then by column. A column in which a method has no runs is a share of nothing.
    """
    listed = list(runs)
    methods = dict.fromkeys(run.method for run in listed)
    columns = dict.fromkeys(column(run) for run in listed)
    return {
        method: {
            name: share(run.success for run in listed if run.method == method and column(run) == name)
            for name in columns
        }
        for method in methods
    }
