"""Which rules no other one beats: compute saved against the share of runs that ended worse."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from benchmarks.stopping.jobs import Regime
from benchmarks.stopping.replay import Replay

__all__ = ["EVERYTHING", "Point", "front", "panels", "points"]

EVERYTHING = "all three, each counting the same"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A rule on some runs.

    Args:
        rule: Its name.
        saved: Mean share of the budget that was not used.
        worse: Share of the runs whose weights are worse by more than ``WORSE``.
    """

    rule: str
    saved: float
    worse: float

    def beats(self, other: Point) -> bool:
        """Whether it is at least as good in both and better in one."""
        no_worse = self.saved >= other.saved and self.worse <= other.worse
        return no_worse and (self.saved, self.worse) != (other.saved, other.worse)


def points(replays: Iterable[Replay]) -> list[Point]:
    """One point for each rule, in the order of the replays."""
    by_rule: dict[str, list[Replay]] = {}
    for replay in replays:
        by_rule.setdefault(replay.rule, []).append(replay)
    return [
        Point(rule=rule, saved=mean(one.saved for one in found), worse=mean(one.is_worse for one in found))
        for rule, found in by_rule.items()
    ]


def front(found: Sequence[Point]) -> list[Point]:
    """The points that no other one beats, from the safest to the boldest."""
    best = [point for point in found if not any(other.beats(point) for other in found)]
    return sorted(best, key=lambda point: (point.saved, point.worse))


def panels(replays: Sequence[Replay]) -> dict[str, list[Point]]:
    """The points of each regime that has runs, and of all regimes together where there are several."""
    by_regime = {
        regime.value: points(replay for replay in replays if replay.curve.regime == regime.value) for regime in Regime
    }
    found = {regime: of_regime for regime, of_regime in by_regime.items() if of_regime}
    if len(found) > 1:
        found[EVERYTHING] = [_middle(of_rule) for of_rule in zip(*found.values(), strict=True)]
    return found


def _middle(of_rule: Sequence[Point]) -> Point:
    rule = of_rule[0].rule
    return Point(rule=rule, saved=mean(one.saved for one in of_rule), worse=mean(one.worse for one in of_rule))
