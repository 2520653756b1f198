"""Why a training may be over: one small class per criterion.

A criterion looks at the history and at the newest judgement and returns the numbers behind its verdict, or None while
the run may go on. None of them holds a state of its own, so that the history alone says what comes next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from lightning_automations.core.decision import Reason
from lightning_automations.core.stopping_history import STRIP_LENGTH, STRIPS_COMPARED, History, Judgement

__all__ = ["Criterion", "Diverged", "NonFinite", "Overfitting", "Plateau", "ThresholdReached"]

_JUDGEMENTS_OF_RISE = (STRIPS_COMPARED - 1) * STRIP_LENGTH
_NON_FINITE_IN_A_ROW = 2


class Criterion(Protocol):
    """One reason to stop."""

    @property
    def reason(self) -> Reason:
        """The reason that a stop by this criterion is given."""

    def verdict(self, history: History, now: Judgement) -> Mapping[str, float] | None:
        """The numbers that say the run is over, or None. The history holds the judgement already."""


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """No improvement that counts for ``patience`` steps, or no new best at all for ``max_no_improvement`` steps."""

    patience: int
    max_no_improvement: int
    reason: Reason = Reason.PLATEAU

    def verdict(self, history: History, now: Judgement) -> Mapping[str, float] | None:
        waited, stalled = history.waited(now.step), history.stalled(now.step)
        if waited >= self.patience:
            return {"waited_steps": waited, "patience": self.patience}
        if stalled >= self.max_no_improvement:
            return {"stalled_steps": stalled, "max_no_improvement": self.max_no_improvement}
        return None


@dataclass(frozen=True)
class Overfitting:
    """The metric was worse in three successive strips of judgements while the training loss fell: Prechelt's UP_3.

    A strip is compared by its mean, which is less noisy than its last value. The verdict is given only where a strip is
    complete and where no improvement was accepted since the rise began.
    """

    reason: Reason = Reason.OVERFITTING

    def verdict(self, history: History, now: Judgement) -> Mapping[str, float] | None:
        strips, losses = history.strips, history.losses
        if history.strip or len(strips) < STRIPS_COMPARED or history.wait_count < _JUDGEMENTS_OF_RISE:
            return None
        sign = 1.0 if now.higher_is_better else -1.0
        worse = all(sign * new < sign * old for old, new in pairwise(strips))
        if not worse or not losses[-1] < losses[0] < math.inf:
            return None
        return {
            "strip_before": strips[0],
            "strip_now": strips[-1],
            "train_loss_before": losses[0],
            "train_loss_now": losses[-1],
        }


@dataclass(frozen=True)
class NonFinite:
    """The metric is NaN or infinite twice in a row.

    Lightning stops at the first. One such value is often an accident of one validation (a PSNR of two equal images is
    infinite), and waiting for the next costs one interval between validations.
    """

    reason: Reason = Reason.NON_FINITE

    def verdict(self, history: History, now: Judgement) -> Mapping[str, float] | None:
        count = history.non_finite_in_a_row
        return {"in_a_row": count} if count >= _NON_FINITE_IN_A_ROW else None


@dataclass(frozen=True)
class ThresholdReached:
    """The metric is better than a value that is good enough."""

    threshold: float
    reason: Reason = Reason.THRESHOLD_REACHED

    def verdict(self, history: History, now: Judgement) -> Mapping[str, float] | None:
        reached = math.isfinite(now.metric) and now.gain_over(self.threshold) > 0
        return {"stopping_threshold": self.threshold} if reached else None


@dataclass(frozen=True)
class Diverged:
    """The metric is worse than a value from which there is no way back."""

    threshold: float
    reason: Reason = Reason.THRESHOLD_CROSSED

    def verdict(self, history: History, now: Judgement) -> Mapping[str, float] | None:
        crossed = math.isfinite(now.metric) and now.gain_over(self.threshold) < 0
        return {"divergence_threshold": self.threshold} if crossed else None
