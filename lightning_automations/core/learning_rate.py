"""When the learning rate is lowered: a plateau, or a loss that rises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import TypedDict

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.errors import Problem
from lightning_automations.core.learning_rate_state import LearningRateState
from lightning_automations.core.settings import AutomationSettings
from lightning_automations.core.state import dumped, restored
from lightning_automations.core.statistics import pushed
from lightning_automations.core.trend import is_better, level_of, noise_of, noise_of_level, rise_of

__all__ = ["LearningRateBrain", "LearningRateFallback", "LearningRateSettings"]

WINDOW_STEPS = 10
"""Optimizer steps between decisions, and in one window of the loss: a divergence is seen within 30 steps."""

# Halving is what plateau schedulers and hand-made step schedules use between their steps; three of them reach the
# seed's lowest factor of 0.1, and one that was not needed costs less than a cut to a tenth.
_CUT = 0.5
# Of the losses of two windows: half of one, or less in each. Rare ones are skipped or overcome: of those that come
# by chance once in a hundred steps, five fall into two windows once in 700,000 windows.
_NON_FINITE_SHARE = 0.25
# After a cut for divergence the loss needs time to come down before it is judged again.
_COOLDOWN_STEPS = 100
# The rise must be there at two decisions in a row.
_DECISIONS_TO_BE_SURE = 2
_MOST_WINDOWS = 100
_METRICS_KEPT = 10


class LearningRateFallback(TypedDict, total=False):
    """The schedule that holds once the automation has retired.

    Args:
        scheduler_type: ``cosine``, ``step``, ``multistep``, ``exponential``, ``plateau``, ``constant``, or the name of
            a class in ``torch.optim.lr_scheduler``.
        scheduler_params: Arguments of that class, without the optimizer.
    """

    scheduler_type: str
    scheduler_params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LearningRateSettings(AutomationSettings):
    """Settings of ``IntelligentLearningRateScheduler``.

    Args:
        monitor_loss: Read the training loss.
        monitor_validation: Read the validation metric.
        monitor_metric: Name of the validation metric as it is logged; None: the one that early stopping monitors, else
            the first validation loss that is logged.
        mode: Whether the metric is better when it is lower (``min``) or higher (``max``); ``auto`` asks the
            torchmetrics object that was logged, else the name.
        adaptation_threshold: Relative rise of the smoothed loss above its recent level, beyond its noise, that counts
            as a divergence; above 0, at most 10.
        plateau_patience: Optimizer steps without improvement before the factor is lowered, 1 or more. Not written, it
            is at most a fifth of the run.
        improvement_threshold: Relative improvement over the best (against its absolute value) that restarts the
            patience; 0 or more, below 1.
        min_lr_factor: The lowest factor on the scheduled rate; above 0, at most 1.
        max_lr_factor: The highest factor on the scheduled rate; 1 to 1e6.
        max_adjustments: Changes of the factor before the automation retires to its fallback, 0 or more; None: no limit.
        fallback: The schedule that holds from then on, run from the current rate for the steps that remain. Empty: the
            factor is held and the schedule of the module goes on.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, or contradicts another.

    Example:
        >>> LearningRateSettings(plateau_patience=500).min_lr_factor
        0.1
    """

    automation: ClassVar[str] = "IntelligentLearningRateScheduler"
    ordered: ClassVar[tuple[tuple[str, str], ...]] = (("min_lr_factor", "max_lr_factor"),)
    # A fifth leaves room for three lowerings before the end of a short run.
    shares_of_steps: ClassVar[Mapping[str, float]] = {"plateau_patience": 0.2}

    monitor_loss: bool = True
    monitor_validation: bool = True
    monitor_metric: str | None = None
    mode: Literal["auto", "min", "max"] = "auto"
    adaptation_threshold: Annotated[float, Gt(0), Le(10)] = 0.02
    plateau_patience: Annotated[int, Ge(1)] = 1000
    improvement_threshold: Annotated[float, Ge(0), Lt(1)] = 0.001
    min_lr_factor: Annotated[float, Gt(0), Le(1)] = 0.1
    max_lr_factor: Annotated[float, Ge(1), Le(1e6)] = 2.0
    fallback: LearningRateFallback = field(default_factory=LearningRateFallback)
    max_adjustments: Annotated[int, Ge(0)] | None = 50

    def contradictions(self) -> Iterable[Problem]:
        if not self.monitor_loss and not self.monitor_validation:
            yield Problem(
                path="monitor_loss",
                expected="true where monitor_validation is false",
                got="false",
                hint="Turn one of the two on, or the automation off with enabled: false.",
            )
        if self.fallback and "scheduler_type" not in self.fallback:
            yield Problem(
                path="fallback.scheduler_type",
                expected="the type of the fallback's scheduler, cosine for instance",
                got="nothing",
            )


class LearningRateBrain:
    """Lowers a factor on the scheduled rate on a plateau, and cuts it when the training loss rises or stays non-finite.

    The loss comes as the mean of a window of ten optimizer steps. Its level is the mean of the windows of the last
    quarter of the patience. A level below the best one by more than the threshold and by more than its own noise is an
    improvement; slow progress counts because it is measured against the last level that counted. A single loss that is
    not finite is no divergence: a quarter of two windows has to be. The factor is never raised.

    Args:
        settings: The settings, fitted to the run.
    """

    def __init__(self, settings: LearningRateSettings) -> None:
        self._settings = settings
        self.state = LearningRateState()
        quarter = settings.plateau_patience // (4 * WINDOW_STEPS)
        self._level_windows = min(max(quarter, 3), _MOST_WINDOWS)

    @property
    def factor(self) -> float:
        """The factor on the scheduled rate that holds now."""
        return self.state.factor

    @property
    def smoothed_loss(self) -> float:
        """The level of the training loss; NaN before the first window."""
        return level_of(self.state.windows[-self._level_windows :])

    def observe(
        self,
        *,
        step: int,
        epoch: int,
        loss: float = math.nan,
        non_finite: float = math.nan,
        metric: float = math.nan,
        mode: Literal["min", "max"] = "min",
        rates: Sequence[float] = (),
    ) -> Adjustment | None:
        """Take one window of the loss, one validation, or both, and say what to change.

        Args:
            step: Optimizer steps done.
            epoch: The epoch, counted from 0.
            loss: Mean of the finite training losses of the last window; NaN: there are none.
            non_finite: Share of the losses of the window that were NaN or infinite; NaN: no window.
            metric: The validation metric; NaN: no validation.
            mode: Whether the metric is better when it is lower or higher.
            rates: The scheduled rates with a window; while one of them rises, no trend is judged.
        """
        if self._stays_non_finite(non_finite):
            evidence = {"non_finite_share": non_finite}
            return self._cut(step, epoch, Reason.NON_FINITE, evidence) if self._cooled_down(step) else None
        if self._schedule_rises(rates):
            self._wait(step)
            return None
        if math.isfinite(loss):
            self._take_loss(step, loss)
            rise = self._divergence(step)
            if rise is not None:
                return self._cut(step, epoch, Reason.DIVERGENCE, rise)
        if math.isfinite(metric):
            self._take_metric(step, metric if mode == "min" else -metric)
        if self._plateau(step):
            return self._cut(step, epoch, Reason.PLATEAU, self._plateau_evidence(step, mode))
        return None

    def start_anew(self, step: int) -> None:
        """Forget what was seen: from this step on, the loss means something else."""
        self.state = replace(self.state, best_loss=None, metrics=(), best_metric=None)
        self._wait(step)

    def state_dict(self) -> dict[str, Any]:
        return dumped(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = restored(LearningRateState, state)
        # Bounds given now win over those of the run that saved the state.
        lowest, highest = self._settings.min_lr_factor, self._settings.max_lr_factor
        self.state.factor = min(max(self.state.factor, lowest), highest)

    def _stays_non_finite(self, share: float) -> bool:
        """Whether so many losses of this window and the one before are NaN or infinite that it is no accident."""
        if math.isnan(share):
            return False
        before, self.state.non_finite_share = self.state.non_finite_share, share
        return (before + share) / 2 >= _NON_FINITE_SHARE and share > 0

    def _schedule_rises(self, rates: Sequence[float]) -> bool:
        previous = self.state.rates
        if rates:
            self.state.rates = tuple(rates)
        return len(rates) == len(previous) and any(now > then for now, then in zip(rates, previous, strict=True))

    def _wait(self, step: int) -> None:
        """Begin a new series of windows, and the patience with it."""
        self.state.windows = ()
        self.state.decisions_rising = 0
        self.state.improved_at_step = step
        self.state.validations_without_improvement = 0

    def _take_loss(self, step: int, loss: float) -> None:
        state = self.state
        state.windows = pushed(state.windows, loss, size=_MOST_WINDOWS)
        if len(state.windows) < self._level_windows:
            return
        level = self.smoothed_loss
        noise = noise_of_level(state.windows, self._level_windows)
        if is_better(level, state.best_loss, threshold=self._settings.improvement_threshold, noise=noise):
            state.best_loss = level
            state.improved_at_step = step

    def _take_metric(self, step: int, metric: float) -> None:
        state = self.state
        state.metrics = pushed(state.metrics, metric, size=_METRICS_KEPT)
        noise = noise_of(state.metrics)
        if is_better(metric, state.best_metric, threshold=self._settings.improvement_threshold, noise=noise):
            state.best_metric = metric
            state.improved_at_step = step
            state.validations_without_improvement = 0
        else:
            state.validations_without_improvement += 1

    def _divergence(self, step: int) -> dict[str, float] | None:
        """The numbers of a sure rise of the loss, or None."""
        rise = rise_of(self.state.windows)
        rises = rise is not None and rise.is_beyond(self._settings.adaptation_threshold)
        self.state.decisions_rising = self.state.decisions_rising + 1 if rises else 0
        if rise is None or self.state.decisions_rising < _DECISIONS_TO_BE_SURE or not self._cooled_down(step):
            return None
        return {"loss": rise.recent, "level_before": rise.before, "noise": rise.noise}

    def _cooled_down(self, step: int) -> bool:
        return self.state.cut_at_step is None or step - self.state.cut_at_step >= _COOLDOWN_STEPS

    def _plateau(self, step: int) -> bool:
        state = self.state
        if state.improved_at_step is None or step - state.improved_at_step < self._settings.plateau_patience:
            return False
        if state.best_loss is None:
            # The metric alone: one validation without improvement is no plateau, however far apart they are.
            return state.validations_without_improvement >= 2
        return state.best_metric is None or state.validations_without_improvement >= 1

    def _plateau_evidence(self, step: int, mode: str) -> dict[str, float]:
        state = self.state
        evidence = {"steps_without_improvement": float(step - (state.improved_at_step or 0))}
        if state.best_loss is not None:
            evidence |= {"loss": self.smoothed_loss, "best_loss": state.best_loss}
        if state.best_metric is not None:
            sign = 1.0 if mode == "min" else -1.0
            evidence |= {"metric": sign * state.metrics[-1], "best_metric": sign * state.best_metric}
        return evidence

    def _cut(self, step: int, epoch: int, reason: Reason, evidence: Mapping[str, float]) -> Adjustment | None:
        state = self.state
        old, new = state.factor, max(state.factor * _CUT, self._settings.min_lr_factor)
        state.improved_at_step = step
        state.validations_without_improvement = 0
        if reason is not Reason.PLATEAU:
            state.cut_at_step = step
            self._wait(step)
        if new == old:
            state.held_back = True
            return None
        state.factor = new
        return Adjustment(
            step=step,
            epoch=epoch,
            automation=self._settings.automation,
            parameter="factor",
            old=old,
            new=new,
            reason=reason,
            evidence=evidence,
        )
