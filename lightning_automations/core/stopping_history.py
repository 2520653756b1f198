"""What the early stopper has seen so far, as far as a verdict depends on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PLANNED_DROP", "History", "Judgement"]

PLANNED_DROP = 0.9
"""A flat rate that falls below this share of itself was dropped by its schedule."""
BESTS_KEPT = 32
"""Bests remembered, for the case that the newest have to be forgotten."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One new value of the metric and what was known with it.

    Args:
        step: Optimizer steps done.
        metric: The value; NaN or infinite where the metric is.
        higher_is_better: Direction of the metric.
        train_loss: Mean training loss since the last judgement; infinite where it is not known.
        steps_left: Optimizer steps until the end of the run; None: not known.
    """

    step: int
    metric: float
    higher_is_better: bool
    train_loss: float
    steps_left: int | None = None

    def gain_over(self, value: float) -> float:
        """How much better the metric is than a value, in the metric's unit; negative where it is worse."""
        return self.metric - value if self.higher_is_better else value - self.metric


@dataclass(kw_only=True)
class History:
    """All that the verdicts depend on besides the newest judgement.

    Args:
        accepted: Step and value of the last bests whose improvement counted, newest last.
        peaks: Step and value of the last bests, however small their improvement, newest last.
        wait_from: Step at which the wait last started anew; None before the first judgement.
        wait_count: Judgements since the last accepted best, or since the wait started anew.
        non_finite_in_a_row: How many of the newest metrics were NaN or infinite.
        rate: Learning rate at the last judgement.
        rate_was_flat: Whether it was the same at the judgement before.
        dropped_since_best: Whether the wait started anew at a drop of the rate that has brought nothing yet.
    """

    accepted: tuple[tuple[float, ...], ...] = ()
    peaks: tuple[tuple[float, ...], ...] = ()
    wait_from: int | None = None
    wait_count: int = 0
    non_finite_in_a_row: int = 0
    rate: float | None = None
    rate_was_flat: bool = False
    dropped_since_best: bool = False

    @property
    def best(self) -> float | None:
        """The best value judged so far, however small its lead."""
        return self.peaks[-1][1] if self.peaks else None

    @property
    def best_step(self) -> int | None:
        """The step of the best value."""
        return int(self.peaks[-1][0]) if self.peaks else None

    @property
    def accepted_step(self) -> int:
        """The step of the last best whose improvement counted; 0 before the first."""
        return int(self.accepted[-1][0]) if self.accepted else 0

    def waited(self, step: int) -> int:
        """Steps since the last accepted best, or since the wait started anew."""
        return self._since(self.accepted, step)

    def stalled(self, step: int) -> int:
        """Steps since the last best, however small, or since the wait started anew."""
        return self._since(self.peaks, step)

    def take_in(self, now: Judgement, *, counts: Callable[[Judgement, float], bool]) -> None:
        """Add the newest judgement.

        Args:
            now: The judgement.
            counts: Whether the metric's gain over a value counts as an improvement.
        """
        if self.wait_from is None:
            self.wait_from = now.step
        self.wait_count += 1
        if not math.isfinite(now.metric):
            self.non_finite_in_a_row += 1
            return
        self.non_finite_in_a_row = 0
        record = (float(now.step), now.metric)
        if self.best is None or now.gain_over(self.best) > 0:
            self.peaks = (*self.peaks, record)[-BESTS_KEPT:]
        if not self.accepted or counts(now, self.accepted[-1][1]):
            self.accepted = (*self.accepted, record)[-BESTS_KEPT:]
            self.wait_count, self.dropped_since_best = 0, False

    def take_in_rate(self, rate: float, *, step: int) -> bool:
        """Note the learning rate, and start the wait anew where it was flat and fell, once until the next best.

        Returns:
            Whether it started anew.
        """
        before, self.rate = self.rate, rate
        if before is None:
            return False
        drops = self.rate_was_flat and rate < PLANNED_DROP * before and not self.dropped_since_best
        self.rate_was_flat = math.isclose(rate, before, rel_tol=1e-6)
        if drops:
            self.restart_wait(step)
            self.dropped_since_best = True
        return drops

    def restart_wait(self, step: int) -> None:
        """Start patience anew from this step."""
        self.wait_from, self.wait_count = step, 0

    def forget_after(self, snapshot_step: int, *, step: int) -> None:
        """Forget what was judged after ``snapshot_step`` and start anew from this step."""
        self.restart_wait(step)
        self.non_finite_in_a_row = 0
        self.accepted = tuple(best for best in self.accepted if best[0] <= snapshot_step)
        self.peaks = tuple(best for best in self.peaks if best[0] <= snapshot_step)

    def _since(self, bests: tuple[tuple[float, ...], ...], step: int) -> int:
        starts = [start for start in (self.wait_from, int(bests[-1][0]) if bests else None) if start is not None]
        return step - max(starts) if starts else 0
