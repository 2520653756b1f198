"""Whether a run still gets better: the smoothed training loss and the validation metric against their best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.rate_evidence import surely_rises
from lightning_automations.core.state import dumped, restored
from lightning_automations.core.statistics import mean, pushed
from lightning_automations.core.trend import Rise, is_better, level_of, noise_of, noise_of_level, rise_of

__all__ = ["Progress", "ProgressState"]

WINDOW_STEPS = 10
"""Optimizer steps between decisions, and in one window of the loss: a divergence is seen within 30 steps."""

_MOST_WINDOWS = 100
# Of the steps until the last improvement: where a loss falls as a power of the steps, as many do, it falls by the same
# share again in that time.
_GROWTH_OF_PATIENCE = 0.2
_METRICS_KEPT = 10
# The rise must be there at two decisions in a row.
_DECISIONS_TO_BE_SURE = 2
_VALIDATIONS_OF_OVERFITTING = 3
_VALIDATIONS_OF_STEADY_PROGRESS = 3
_STEADY_SPEED = 0.7


@dataclass(kw_only=True)
class ProgressState:
    """What ``Progress`` has seen. Metrics are kept such that lower is better.

    Args:
        windows: Mean losses of the last windows, oldest first.
        best_loss: The last level of the loss that was an improvement; None: there was no level yet.
        metrics: The last metrics, oldest first.
        metrics_since_change: How many of them came after the last change of the rate.
        best_metric: The last metric that was an improvement; None: there was none yet.
        validations_without_improvement: Validations since then.
        metric_improved_at_step: When the metric last improved.
        improved_at_step: The step from which on the patience counts.
        decisions_rising: Windows in a row after which the loss was surely above its level.
    """

    windows: tuple[float, ...] = ()
    best_loss: float | None = None
    metrics: tuple[float, ...] = ()
    metrics_since_change: int = 0
    best_metric: float | None = None
    validations_without_improvement: int = 0
    metric_improved_at_step: int | None = None
    improved_at_step: int | None = None
    decisions_rising: int = 0


class Progress:
    """Follows loss and metric.

    The loss comes as the mean of a window of ten optimizer steps. Its level is the mean of the windows of the last
    quarter of the patience. A level below the best one by more than the threshold and by more than its own noise is an
    improvement; slow progress counts because it is measured against the last level that counted.

    Args:
        settings: The settings, fitted to the run.
        patience_grows: Whether ``plateau_patience`` is only where the patience begins.
    """

    def __init__(self, settings: LearningRateSettings, *, patience_grows: bool = False) -> None:
        self._settings = settings
        self._growth_of_patience = _GROWTH_OF_PATIENCE if patience_grows else 0.0
        self.state = ProgressState()
        quarter = settings.plateau_patience // (4 * WINDOW_STEPS)
        self._level_windows = min(max(quarter, 3), _MOST_WINDOWS)

    @property
    def smoothed_loss(self) -> float:
        """The level of the training loss; NaN before the first window."""
        return level_of(self.state.windows[-self._level_windows :])

    def wait(self, step: int) -> None:
        """Begin a new series of windows, and the patience with it."""
        self.state.windows = ()
        self.state.decisions_rising = 0
        self.state.metrics_since_change = 0
        self.be_patient(step)

    def be_patient(self, step: int) -> None:
        """Begin the patience anew."""
        self.state.improved_at_step = step
        self.state.metric_improved_at_step = step
        self.state.validations_without_improvement = 0

    def start_anew(self, step: int) -> None:
        """Forget what was seen: from this step on, loss and metric mean something else."""
        self.state.best_loss = self.state.best_metric = None
        self.state.metrics = ()
        self.wait(step)

    def take_loss(self, step: int, loss: float) -> None:
        """Take the mean loss of one window."""
        state = self.state
        state.windows = pushed(state.windows, loss, size=_MOST_WINDOWS)
        if len(state.windows) < self._level_windows:
            return
        level = self.smoothed_loss
        noise = noise_of_level(state.windows, self._level_windows)
        if is_better(level, state.best_loss, threshold=self._settings.improvement_threshold, noise=noise):
            state.best_loss = level
            state.improved_at_step = step

    def take_metric(self, step: int, metric: float) -> None:
        """Take one validation, such that lower is better."""
        state = self.state
        state.metrics = pushed(state.metrics, metric, size=_METRICS_KEPT)
        state.metrics_since_change += 1
        noise = noise_of(state.metrics)
        if is_better(metric, state.best_metric, threshold=self._settings.improvement_threshold, noise=noise):
            state.best_metric = metric
            state.improved_at_step = state.metric_improved_at_step = step
            state.validations_without_improvement = 0
        else:
            state.validations_without_improvement += 1

    def divergence(self) -> Rise | None:
        """The numbers of a sure rise of the loss, or None. Asked once a window."""
        rise = rise_of(self.state.windows)
        rises = rise is not None and rise.is_beyond(self._settings.adaptation_threshold)
        self.state.decisions_rising = self.state.decisions_rising + 1 if rises else 0
        return rise if self.state.decisions_rising >= _DECISIONS_TO_BE_SURE else None

    def is_on_plateau(self, step: int) -> bool:
        """Whether neither loss nor metric has improved for the patience."""
        state = self.state
        since = state.improved_at_step
        if since is None or step - since < self._patience_from(since):
            return False
        if state.best_loss is None:
            # The metric alone: one validation without improvement is no plateau, however far apart they are.
            return state.validations_without_improvement >= 2
        return state.best_metric is None or state.validations_without_improvement >= 1

    def overfits(self, step: int) -> bool:
        """Whether the metric surely gets worse, for three validations and most of the patience, but the loss falls.

        Three that are worse than a lucky one are no overfitting: the line through all that came after the best says it.
        """
        state = self.state
        if state.best_metric is None or state.validations_without_improvement < _VALIDATIONS_OF_OVERFITTING:
            return False
        improved_at = state.metric_improved_at_step or 0
        windows = state.windows
        falls = len(windows) >= 4 and mean(windows[-2:]) < mean(windows[-4:-2])
        is_worse = min(state.metrics[-_VALIDATIONS_OF_OVERFITTING:]) > state.best_metric
        gets_worse = surely_rises(state.metrics[-state.validations_without_improvement :])
        return falls and is_worse and gets_worse and step - improved_at >= 0.75 * self._patience_from(improved_at)

    def _patience_from(self, improved_at: int) -> float:
        """Steps without improvement that are borne."""
        return max(self._settings.plateau_patience, self._growth_of_patience * improved_at)

    def metric_forbids_raising(self) -> bool:
        """Whether the last validation was not the best that is remembered."""
        return len(self.state.metrics) >= 2 and self.state.metrics[-1] > min(self.state.metrics)

    def metric_improves_steadily(self) -> bool:
        """Whether the last validations since a change improved one after the other, and hardly slower."""
        if self.state.metrics_since_change < _VALIDATIONS_OF_STEADY_PROGRESS:
            return False
        first, second, third = self.state.metrics[-_VALIDATIONS_OF_STEADY_PROGRESS:]
        return first - second > 0 and second - third >= _STEADY_SPEED * (first - second)

    def evidence(self, step: int, *, lower_is_better: bool) -> dict[str, float]:
        """The numbers behind a plateau."""
        state = self.state
        evidence = {"steps_without_improvement": float(step - (state.improved_at_step or 0))}
        if state.best_loss is not None and state.windows:  # none while an exploded loss is waited out
            evidence |= {"loss": self.smoothed_loss, "best_loss": state.best_loss}
        if state.best_metric is not None:
            sign = 1.0 if lower_is_better else -1.0
            evidence |= {"metric": sign * state.metrics[-1], "best_metric": sign * state.best_metric}
        return evidence

    def state_dict(self) -> dict[str, Any]:
        return dumped(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = restored(ProgressState, state)
