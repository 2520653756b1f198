"""How large the gradients of one optimizer usually are, and how far above that an ordinary norm can lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median_low

from lightning_automations.core.statistics import pushed, quantile

__all__ = ["ENOUGH_NORMS", "LevelState"]

ENOUGH_NORMS = 8
"""Norms before the first threshold of a history, and successive norms beyond the band that are a new level."""
UPPER_QUANTILE = 0.9
"""Up to a tenth of the history may be outliers without lifting the threshold."""
TAIL = 3.0
"""The threshold lies this many times as far above the median as the upper quantile does, on the logarithm. For normally
distributed logarithms that is 3.8 standard deviations; a tail that is heavier above than below is followed."""
SMALLEST_REACH = math.log(1.5)
"""A threshold is never lower than this many times the usual norm."""
LARGEST_REACH = math.log(10)
"""Nor higher than ten times of it: what looks like a longer tail is norms that rise or fall within the history, and a
threshold that is made of that protects from nothing."""
LARGEST_EARLY_REACH = math.log(3)
"""Before ``FULL_NORMS`` are known, when they rise and fall fastest."""
FULL_NORMS = 60
FIRST_RISE = 10.0
"""The first usual level counts as at most the very first norm times this. No learning rate has touched that norm: it is
the gradient at the initial weights. Eight steps later a run may have blown up."""


@dataclass
class LevelState:
    """What is known of the gradients of one optimizer; every norm as its natural logarithm."""

    threshold: float
    counted: float
    """The threshold at the last change that was counted."""
    placed: bool = False
    """Whether the threshold is one that norms have made."""
    steps: int = 0
    """Steps since the beginning, counted up to ``ENOUGH_NORMS``; some leave no norm."""
    norms: tuple[float, ...] = ()
    """The history, oldest first."""
    beyond: tuple[float, ...] = ()
    """The last successive norms beyond the band on one side."""
    centre: float | None = None
    """The usual level, as of the last decision; None until a history has had one."""
    old_centre: float = 0.0
    """The usual level before the last new one."""
    above: float = 0.0
    """How far above the level the threshold belongs, as of the last decision."""
    below: float = 0.0
    """How far below the level an ordinary norm can lie, likewise."""
    first_norm: float | None = None
    """The run's very first norm."""
    first_centre: float | None = None
    """The usual level at the run's first decision: what the unit of the loss makes of the gradients."""

    def see(self, norm: float, *, size: int) -> None:
        """Take up one norm, as its logarithm, into a history of this size."""
        if self.first_norm is None:
            self.first_norm = norm
        self.norms = pushed(self.norms, norm, size=size)
        if self.centre is None or -self.below <= norm - self.centre <= self.above:
            self.beyond = ()
            return
        same_side = bool(self.beyond) and (self.beyond[-1] > self.centre) == (norm > self.centre)
        self.beyond = (*self.beyond, norm) if same_side else (norm,)
        if len(self.beyond) >= ENOUGH_NORMS:
            self.norms, self.beyond, self.old_centre, self.centre = self.beyond[-size:], (), self.centre, None

    def measure(self) -> tuple[float, float]:
        """Take the level and the reach above and below it from the history; the level now, and the run's first one."""
        ordered = self._ordinary()
        # Of two in the middle the lower one: one outlier among the first two norms must not be half of the level.
        self.centre = median_low(ordered)
        self.above = self._reach(quantile(ordered, UPPER_QUANTILE) - self.centre)
        self.below = self._reach(self.centre - quantile(ordered, 1 - UPPER_QUANTILE))
        if self.first_centre is None:
            first_norm = self.centre if self.first_norm is None else self.first_norm
            self.first_centre = min(self.centre, first_norm + math.log(FIRST_RISE))
        return self.centre, self.first_centre

    def _ordinary(self) -> list[float]:
        """The history in ascending order, without those at its end that may be a new level."""
        return sorted(self.norms[: len(self.norms) - len(self.beyond)] or self.norms)

    def _reach(self, distance: float) -> float:
        largest = LARGEST_REACH if len(self.norms) >= FULL_NORMS else LARGEST_EARLY_REACH
        return min(max(TAIL * distance, SMALLEST_REACH), largest)

    def evidence(self) -> dict[str, float]:
        """The numbers that the threshold is made of."""
        ordered = self._ordinary()
        return {
            "usual_norm": math.exp(median_low(ordered)),
            "upper_norm": math.exp(quantile(ordered, UPPER_QUANTILE)),
            "norms": len(ordered),
        }
