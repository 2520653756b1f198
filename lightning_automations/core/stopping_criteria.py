"""Why a training may be over: one small class per criterion.

A criterion looks at the history, the trend and the newest judgement and returns the numbers behind its verdict, or None
while the run may go on. None of them holds a state of its own, so that those two alone say what comes next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lightning_automations.core.decision import Reason
from lightning_automations.core.stopping_history import History, Judgement
from lightning_automations.core.stopping_trend import LEVEL_LENGTH, Trend

__all__ = ["Convergence", "Criterion", "Diverged", "NonFinite", "Overfitting", "Plateau", "ThresholdReached"]

# In standard deviations of a level. Chosen on 336 recorded runs of seeds that the published replay does not use.
_SURE_RISE = 2.0
_SURE_FALL = 4.0
_LEAST_RISE = 0.005
_SURE_SLOPE = 3.0
_JUDGEMENTS_OF_LINE = 12
_JUDGEMENTS_OF_NOISE = 8
_SHARE_OF_BEST = 0.05
_NON_FINITE_IN_A_ROW = 2


class Criterion(Protocol):
    """One reason to stop."""

    @property
    def reason(self) -> Reason:
        """The reason that a stop by this criterion is given."""

    def verdict(self, history: History, trend: Trend, now: Judgement) -> Mapping[str, float] | None:
        """The numbers that say the run is over, or None. History and trend hold the judgement already."""


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """No improvement that counts for ``patience`` steps, or no new best at all for ``max_no_improvement`` steps.

    Both grow with the step of the best by the same share, as AutoGluon's patience does: what took long to reach takes
    long to be improved.
    """

    patience: int
    max_no_improvement: int
    growth: float = 0.0
    reason: Reason = Reason.PLATEAU

    def verdict(self, history: History, trend: Trend, now: Judgement) -> Mapping[str, float] | None:
        waited, stalled = history.waited(now.step), history.stalled(now.step)
        patience = self.patience + self.growth * history.accepted_step
        limit = self.max_no_improvement + self.growth * (history.best_step or 0)
        if waited >= patience:
            return {"waited_steps": waited, "patience": patience}
        if stalled >= limit:
            return {"stalled_steps": stalled, "max_no_improvement": limit}
        return None


@dataclass(frozen=True)
class Overfitting:
    """The metric has surely risen above its best level, and the training loss has surely fallen since.

    Rise and fall are measured against the noise of each series, of which fewer than eight judgements say too little,
    and the rise has to last for three judgements. That
    the training loss falls beyond its noise tells overfitting from a validation that is merely noisy: under dropout,
    rises of the metric alone mislead.
    """

    reason: Reason = Reason.OVERFITTING

    def verdict(self, history: History, trend: Trend, now: Judgement) -> Mapping[str, float] | None:
        if len(trend.metrics) < _JUDGEMENTS_OF_NOISE or trend.since_level < LEVEL_LENGTH:
            return None
        if trend.level is None or not trend.stays_above_its_best:
            return None
        level, loss = trend.level_now(), trend.loss_now()
        # The best of so many levels lies low by chance, by the root of twice the logarithm in deviations of one level.
        by_chance = math.sqrt(math.log(max(len(trend.metrics), 2)))
        least_rise = max((_SURE_RISE + by_chance) * trend.noise, _LEAST_RISE * abs(trend.level))
        has_risen = level - trend.level > least_rise
        if not has_risen or not trend.level_loss - loss > _SURE_FALL * trend.loss_noise:
            return None
        sign = -1.0 if now.higher_is_better else 1.0
        return {
            "level_before": sign * trend.level,
            "level_now": sign * level,
            "train_loss_before": trend.level_loss,
            "train_loss_now": loss,
        }


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """What the rest of the run can still gain is too little to matter.

    A line through the last twelve judgements, steeper by three standard errors than it is, is drawn on to the end of
    the run. Curves flatten, so that it is an upper bound unless the learning rate is dropped, after which the
    judgements start anew. Too little is less than ``threshold`` of what the run has gained so far, and less than 5 % of
    the best's absolute value, which for a loss near 0 is the smaller of the two.

    Args:
        threshold: The share, 0 or more. Where the steps that are left are not known, nothing is concluded.
    """

    threshold: float
    reason: Reason = Reason.CONVERGENCE

    def verdict(self, history: History, trend: Trend, now: Judgement) -> Mapping[str, float] | None:
        if now.steps_left is None or trend.since_start < _JUDGEMENTS_OF_LINE or trend.level is None:
            return None
        slope, error = trend.slope(_JUDGEMENTS_OF_LINE)
        gain = (_SURE_SLOPE * error - slope) * now.steps_left
        matters = min(self.threshold * trend.gain_so_far, _SHARE_OF_BEST * abs(trend.level))
        if not gain < matters:
            return None
        return {"gain_at_most": max(gain, 0.0), "gain_that_matters": matters, "steps_left": now.steps_left}


@dataclass(frozen=True)
class NonFinite:
    """The metric is NaN or infinite twice in a row.

    Lightning stops at the first. One such value is often an accident of one validation (a PSNR of two equal images is
    infinite), and waiting for the next costs one interval between validations.
    """

    reason: Reason = Reason.NON_FINITE

    def verdict(self, history: History, trend: Trend, now: Judgement) -> Mapping[str, float] | None:
        count = history.non_finite_in_a_row
        return {"in_a_row": count} if count >= _NON_FINITE_IN_A_ROW else None


@dataclass(frozen=True)
class ThresholdReached:
    """The metric is better than a value that is good enough."""

    threshold: float
    reason: Reason = Reason.THRESHOLD_REACHED

    def verdict(self, history: History, trend: Trend, now: Judgement) -> Mapping[str, float] | None:
        reached = math.isfinite(now.metric) and now.gain_over(self.threshold) > 0
        return {"stopping_threshold": self.threshold} if reached else None


@dataclass(frozen=True)
class Diverged:
    """The metric is worse than a value from which there is no way back."""

    threshold: float
    reason: Reason = Reason.THRESHOLD_CROSSED

    def verdict(self, history: History, trend: Trend, now: Judgement) -> Mapping[str, float] | None:
        crossed = math.isfinite(now.metric) and now.gain_over(self.threshold) < 0
        return {"divergence_threshold": self.threshold} if crossed else None
