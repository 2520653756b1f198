"""Whether the recorded runs are of the kind that their regime asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.stopping.curve import Curve
from benchmarks.stopping.jobs import Regime

__all__ = ["Check", "check"]

LATE_BETWEEN = (0.55, 0.65)
EARLY_BUDGET_AT_MOST = 10
SLOW_AT_LEAST = 0.85


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a regime asks for and what was found.

    Args:
        regime: The regime.
        asked: The condition, in words.
        best_share: Median over the runs of the best step, as a share of the budget.
        holds: Whether the condition is met.
    """

    regime: Regime
    asked: str
    best_share: float
    holds: bool

    @property
    def budget_over_best(self) -> float:
        """The budget as a multiple of the median best step."""
        return 1 / self.best_share


def check(regime: Regime, curves: Sequence[Curve]) -> Check:
    """Check the runs of one regime.

    Args:
        regime: The regime.
        curves: Its runs, at least one.
    """
    found = median(curve.best_share for curve in curves)
    low, high = LATE_BETWEEN
    asked, holds = {
        Regime.LATE: (f"median best step at {100 * low:g} to {100 * high:g} % of the budget", low <= found <= high),
        Regime.EARLY: (
            f"budget at most {EARLY_BUDGET_AT_MOST} times the median best step",
            1 / found <= EARLY_BUDGET_AT_MOST,
        ),
        Regime.SLOW: (f"median best step at {100 * SLOW_AT_LEAST:g} % of the budget or later", found >= SLOW_AT_LEAST),
    }[regime]
    return Check(regime=regime, asked=asked, best_share=found, holds=holds)
