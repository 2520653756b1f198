"""Where the metric of a run is heading: its level, its noise, and what the last judgements say about the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from lightning_automations.core.statistics import line_through, mean, median_absolute_deviation
from lightning_automations.core.stopping_history import Judgement

__all__ = ["LEVEL_LENGTH", "Trend"]

LEVEL_LENGTH = 3
"""Judgements in a level: their mean is less noisy than one of them, and late by one."""
_KEPT = 21
"""Judgements kept: twenty differences tell the noise."""


@dataclass(kw_only=True)
class Trend:
    """The last judgements, and the best level so far. All metrics are turned so that lower is better.

    Args:
        steps: Optimizer steps of the last judgements, newest last.
        metrics: Their metrics.
        losses: Their training losses; infinite where not known.
        since_start: Judgements since the wait started anew.
        first: The first metric of the run.
        level: The lowest level; None before the first judgement.
        level_step: The step of it.
        level_loss: Level of the training loss at that step.
        since_level: Judgements since then, or since the wait started anew.
    """

    steps: tuple[int, ...] = ()
    metrics: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    since_start: int = 0
    first: float | None = None
    level: float | None = None
    level_step: int = 0
    level_loss: float = math.inf
    since_level: int = 0

    def take_in(self, now: Judgement) -> None:
        """Add a judgement whose metric is finite."""
        value = -now.metric if now.higher_is_better else now.metric
        self.first = value if self.first is None else self.first
        self.steps = (*self.steps, now.step)[-_KEPT:]
        self.metrics = (*self.metrics, value)[-_KEPT:]
        self.losses = (*self.losses, now.train_loss)[-_KEPT:]
        self.since_start, self.since_level = self.since_start + 1, self.since_level + 1
        level = self.level_now()
        if self.level is None or level < self.level:
            self.level, self.level_step, self.since_level = level, now.step, 0
            self.level_loss = self.loss_now()

    def restart(self) -> None:
        """Judge the trend anew from here; the best level stays, and so does what is known of the noise."""
        self.since_start = self.since_level = 0

    def forget_after(self, step: int) -> None:
        """Forget what was judged after this step, and judge anew."""
        known = sum(taken <= step for taken in self.steps)
        self.steps, self.metrics, self.losses = self.steps[:known], self.metrics[:known], self.losses[:known]
        if self.level is not None and self.level_step > step:
            self.level = None
        self.restart()

    def level_now(self) -> float:
        """The mean of the last metrics, none of them from before the wait started anew."""
        return mean(self.metrics[-min(LEVEL_LENGTH, max(self.since_start, 1)) :])

    @property
    def stays_above_its_best(self) -> bool:
        """Whether every metric of the last level is above the best level: one bad validation is no rise."""
        return self.level is not None and min(self.metrics[-LEVEL_LENGTH:]) > self.level

    def loss_now(self) -> float:
        """The mean of the last training losses."""
        return mean(self.losses[-LEVEL_LENGTH:])

    @property
    def noise(self) -> float:
        """Standard deviation of the difference of two levels of the metric."""
        return _noise_of(self.metrics)

    @property
    def loss_noise(self) -> float:
        """The same of the training loss."""
        return _noise_of(self.losses)

    def slope(self, count: int) -> tuple[float, float]:
        """Change of the metric in one step over the last judgements, and its standard error.

        Args:
            count: Of judgements, three or more.
        """
        return line_through(self.metrics[-count:], self.steps[-count:])

    @property
    def gain_so_far(self) -> float:
        """How far the level has come down from the first metric."""
        return abs(self.first - self.level) if self.first is not None and self.level is not None else 0.0


def _noise_of(values: tuple[float, ...]) -> float:
    """Standard deviation of the difference of two levels: the larger of a robust and a careful estimate.

    The usual difference of neighbours is not misled by a single jump, but of twenty values it is often far too small.
    The mean square of second differences is surer, knows heavy tails, and leaves a straight trend out of account.
    """
    differences = [after - before for before, after in pairwise(values) if math.isfinite(after - before)]
    changes = [after - before for before, after in pairwise(differences)]
    # In terms of one value's noise: root 2, root 6, and root 2/3 for the difference of two levels.
    robust = median_absolute_deviation(differences) / math.sqrt(2)
    careful = math.sqrt(mean([change**2 for change in changes]) / 6) if changes else 0.0
    return max(robust, careful) * math.sqrt(2 / LEVEL_LENGTH)
