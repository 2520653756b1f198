"""When a training is over: the decision of the early stopper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.state import dumped, restored
from lightning_automations.core.stopping_criteria import (
    Convergence,
    Criterion,
    Diverged,
    NonFinite,
    Overfitting,
    Plateau,
    ThresholdReached,
)
from lightning_automations.core.stopping_history import History, Judgement
from lightning_automations.core.stopping_trend import Trend

__all__ = ["EarlyStoppingBrain", "stop_in_words"]


class EarlyStoppingBrain:
    """Decides when a training is over.

    An improvement counts if it is above ``min_improvement`` or above ``improvement_threshold`` times the best's
    absolute value, measured from the last best that counted, so that many small steps add up. A verdict is formed anew
    at every judgement and never kept: a run that improves is not stopped by what was seen before.

    A learning rate that was flat between the last two judgements and then fell by more than 10 % was dropped by a
    schedule with steps: the wait starts anew, as the drop may bring the next improvement, and once more only after it
    has brought one. So a rate that falls all the time (cosine, exponential, many small steps) does not postpone a stop
    for ever. A drop that is still to come is waited for likewise, unless the one before it has brought nothing.

    Args:
        settings: What the user wrote.
    """

    def __init__(self, settings: EarlyStoppingSettings) -> None:
        self._settings = settings
        self._criteria = tuple(_criteria(settings))
        self.history, self.trend = History(), Trend()

    def observe(
        self,
        *,
        step: int,
        epoch: int,
        epochs_done: int,
        metric: float,
        higher_is_better: bool,
        train_loss: float | None = None,
        rate: float | None = None,
        may_stop: bool = True,
        clock_stands: bool = False,
        drop_ahead: bool = False,
        can_be_saved: bool = False,
        horizon_steps: int | None = None,
    ) -> Adjustment | None:
        """Judge one new value of the metric.

        Args:
            step: Optimizer steps done.
            epoch: The epoch, counted from 0.
            epochs_done: Training epochs that are complete.
            metric: The value.
            higher_is_better: Direction of the metric.
            train_loss: Mean training loss since the last judgement; None: not known.
            rate: Learning rate; None: not known.
            may_stop: False where the trainer's own minimum of steps or epochs is not reached.
            clock_stands: Whether the learning rate is being tried or brought down: nothing is waited for meanwhile.
            drop_ahead: Whether the schedule keeps the rate up and lets it fall later in the run.
            can_be_saved: Whether another automation brings a run back whose loss is not finite.
            horizon_steps: Optimizer steps of the whole run; None: not known.
        """
        settings = self._settings
        if rate is not None and self.history.take_in_rate(rate, step=step):
            self.trend.restart()
        if step < settings.warmup_iterations:
            return None
        loss = train_loss if train_loss is not None and math.isfinite(train_loss) else math.inf
        left = None if horizon_steps is None else max(horizon_steps - step, 0)
        now = Judgement(step=step, metric=metric, higher_is_better=higher_is_better, train_loss=loss, steps_left=left)
        self.history.take_in(now, counts=self._counts)
        if math.isfinite(metric):
            self.trend.take_in(now)
        if clock_stands or (drop_ahead and not self.history.dropped_since_best):
            self.restart_wait(step)
        if not may_stop or step < settings.min_iterations or epochs_done < settings.min_epochs:
            return None
        for criterion in self._criteria:
            numbers = criterion.verdict(self.history, self.trend, now)
            if numbers is not None and not (can_be_saved and criterion.reason is Reason.NON_FINITE):
                return self._stop(now, epoch, criterion.reason, numbers)
        return None

    def restart_wait(self, step: int) -> None:
        """Something changed that may bring the next improvement: patience and trend start anew from here."""
        self.history.restart_wait(step)
        self.trend.restart()

    def forget_after(self, snapshot_step: int, *, step: int) -> None:
        """The weights went back to those of ``snapshot_step``: what was judged after it is forgotten."""
        self.history.forget_after(snapshot_step, step=step)
        self.trend.forget_after(snapshot_step)

    def state_dict(self) -> dict[str, Any]:
        """All that a decision depends on, as JSON-able values."""
        return {"history": dumped(self.history), "trend": dumped(self.trend)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that ``state_dict`` gave."""
        self.history, self.trend = restored(History, state["history"]), restored(Trend, state["trend"])

    def _counts(self, now: Judgement, best: float) -> bool:
        """Whether the metric is an improvement over the last accepted best that is large enough."""
        absolute, relative = self._settings.min_improvement, self._settings.improvement_threshold
        needed = min(
            math.inf if absolute is None else absolute,
            math.inf if relative is None else relative * abs(best),
        )
        return now.gain_over(best) > needed

    def _stop(self, now: Judgement, epoch: int, reason: Reason, numbers: Mapping[str, float]) -> Adjustment:
        evidence = {**numbers, "metric": now.metric, "best": self.history.best, "best_step": self.history.best_step}
        return Adjustment(
            step=now.step,
            epoch=epoch,
            automation=self._settings.automation,
            parameter="should_stop",
            old=False,
            new=True,
            reason=reason,
            # JSON knows neither NaN nor infinity
            evidence={name: value for name, value in evidence.items() if value is not None and math.isfinite(value)},
        )


def _criteria(settings: EarlyStoppingSettings) -> Iterable[Criterion]:
    """The criteria that are on, the most urgent first."""
    if settings.uses("non_finite") and settings.check_finite:
        yield NonFinite()
    if settings.stopping_threshold is not None:
        yield ThresholdReached(settings.stopping_threshold)
    if settings.divergence_threshold is not None:
        yield Diverged(settings.divergence_threshold)
    if settings.uses("overfitting"):
        yield Overfitting()
    if settings.uses("plateau"):
        yield Plateau(
            patience=settings.patience,
            max_no_improvement=settings.max_no_improvement,
            growth=settings.patience_growth or 0.0,
        )
    if settings.uses("convergence") and settings.convergence_threshold > 0:
        yield Convergence(threshold=settings.convergence_threshold)


def stop_in_words(stop: Adjustment, planned_at_start: int | None, planned: int | None, *, applied: bool) -> str:
    """When and why a run was stopped, and what that saved.

    Args:
        stop: What the brain returned.
        planned_at_start: Optimizer steps of the whole run as it began; None: not known.
        planned: The same at the stop: a batch that grows makes fewer steps of the same samples.
        applied: False in a dry run, which goes on.
    """
    stopped, were_saved = ("stopped", "saved") if applied else ("would have stopped", "would have been saved")
    text = f"{stopped} at step {stop.step} ({stop.reason})"
    if planned is None:
        return text
    share = 100 * max(0, planned - stop.step) / planned
    changed = "" if planned == planned_at_start else f" ({planned_at_start} before the batch grew)"
    return f"{text}, {share:.0f} % of {planned} planned steps{changed} {were_saved}"
