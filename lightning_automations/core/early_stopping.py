"""When a training is over: settings and decision of the early stopper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge
from typing_extensions import Self, TypedDict

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.errors import Problem
from lightning_automations.core.settings import AutomationSettings, RunLength
from lightning_automations.core.state import dumped, restored
from lightning_automations.core.stopping_criteria import (
    Criterion,
    Diverged,
    NonFinite,
    Overfitting,
    Plateau,
    ThresholdReached,
)
from lightning_automations.core.stopping_history import History, Judgement

__all__ = ["EarlyStoppingBrain", "EarlyStoppingFallback", "EarlyStoppingSettings"]


class EarlyStoppingFallback(TypedDict, total=False):
    """What holds once the stopper has retired.

    Args:
        early_stopping: True: the plain rule (patience alone) goes on; False: the run is no longer stopped early.
    """

    early_stopping: bool


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingSettings(AutomationSettings):
    """Settings of ``IntelligentEarlyStopping``. All counts but ``min_epochs`` are in optimizer steps.

    Counts that are not written are shortened where the run is too short for them: ``patience`` and
    ``max_no_improvement`` to 20 % of its steps, ``min_iterations`` to 30 %, ``warmup_iterations`` to 5 %, and
    ``min_epochs`` to 30 % of its epochs. What is written holds; a ``max_no_improvement`` that is not written is never
    below ``patience``.

    Args:
        monitor_metric: Name of the metric to watch, as it is logged. Written and not logged by the end of the first
            validation: an error that lists what was logged. Not written and not logged: the metric of the first
            ``ModelCheckpoint`` or plateau scheduler that has one, else the only logged name with ``val`` and ``loss``.
        mode: ``min`` or ``max``: which way is better; ``auto``: from the metric object or its name.
        patience: Steps without an improvement that counts after which the run is stopped, 1 or more.
        min_improvement: An improvement over the last accepted best counts if it is above this, in the metric's unit,
            0 or more; None: not used.
        improvement_threshold: It counts as well if it is above this share of the best's absolute value, 0 or more;
            None: not used. One of the two suffices.
        max_no_improvement: Steps without any new best, however small, after which the run is stopped, 1 or more.
        min_epochs: Training epochs before which the run is never stopped, 0 or more.
        min_iterations: Steps before which the run is never stopped, 0 or more.
        warmup_iterations: Steps before which metrics are not judged and never become the best, 0 or more.
        criteria: What may stop the run: ``all``, or any of ``plateau``, ``overfitting``, ``non_finite``, ``threshold``.
        restore_best: Put the best weights back when training ends.
        stopping_threshold: Stop as soon as the metric is better than this; None: not used.
        divergence_threshold: Stop as soon as the metric is worse than this; None: not used.
        check_finite: Stop when the metric is NaN or infinite at two judgements in a row (criterion ``non_finite``).
        strict: Whether a metric that was written and is not logged is an error; False: it is waited for.
        verbose: Log every improvement.
        max_adjustments: Stops in one fit, 0 or more; None: no limit. 0: it retires as training starts, and nothing is
            judged unless the fallback goes on.
        fallback: ``early_stopping``: whether the plain rule goes on once the automation has retired.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, or contradicts another.

    Example:
        >>> EarlyStoppingSettings(monitor_metric="val/loss", patience=500).mode
        'auto'
    """

    automation: ClassVar[str] = "IntelligentEarlyStopping"
    shares_of_steps: ClassVar[Mapping[str, float]] = {
        "patience": 0.2,
        "max_no_improvement": 0.2,
        "min_iterations": 0.3,
        "warmup_iterations": 0.05,
    }
    shares_of_epochs: ClassVar[Mapping[str, float]] = {"min_epochs": 0.3}

    monitor_metric: str = "val/psnr"
    mode: Literal["auto", "min", "max"] = "auto"
    patience: Annotated[int, Ge(1)] = 2000
    min_improvement: Annotated[float, Ge(0)] | None = 0.001
    improvement_threshold: Annotated[float, Ge(0)] | None = 0.002
    max_no_improvement: Annotated[int, Ge(1)] = 2000
    min_epochs: Annotated[int, Ge(0)] = 1000
    min_iterations: Annotated[int, Ge(0)] = 5000
    warmup_iterations: Annotated[int, Ge(0)] = 1000
    criteria: Literal["all"] | tuple[Literal["plateau", "overfitting", "non_finite", "threshold"], ...] = "all"
    restore_best: bool = False
    stopping_threshold: float | None = None
    divergence_threshold: float | None = None
    check_finite: bool = True
    strict: bool = True
    verbose: bool = False
    max_adjustments: Annotated[int, Ge(0)] | None = 1
    fallback: EarlyStoppingFallback = field(default_factory=lambda: EarlyStoppingFallback(early_stopping=False))

    def contradictions(self) -> Iterable[Problem]:
        if self.min_improvement is None and self.improvement_threshold is None:
            yield Problem(
                path="min_improvement",
                expected="a number, for improvement_threshold is null too",
                got="null",
                hint="Nothing would ever count as an improvement; 0 lets every new best count.",
            )
        for name in ("stopping_threshold", "divergence_threshold"):
            if not self.uses("threshold") and getattr(self, name) is not None:
                yield Problem(
                    path="criteria",
                    expected=f"'threshold' among them, for {name} is set",
                    got=repr(list(self.criteria)),
                    hint=f"Add 'threshold' to criteria or leave {name} out.",
                )

    def uses(self, criterion: str) -> bool:
        """Whether a criterion is on."""
        return self.criteria == "all" or criterion in self.criteria

    def fitted(self, run: RunLength, written: Iterable[str]) -> Self:
        """As for all settings; and a default never cuts a patience short that was written."""
        settings = super().fitted(run, written)
        if "max_no_improvement" in written:
            return settings
        return replace(settings, max_no_improvement=max(settings.max_no_improvement, settings.patience))

    def by_patience_alone(self) -> Self:
        """The settings of the plain rule: gates and patience as they are, no other criterion."""
        return replace(self, criteria=("plateau",), stopping_threshold=None, divergence_threshold=None)

    def obstacles(self, run: RunLength) -> list[str]:
        """Why the run cannot be stopped early, as far as that is known at its start; empty where it can."""
        found = []
        if not self.criteria:
            found.append("criteria is empty")
        if run.epochs is not None and self.min_epochs >= run.epochs:
            found.append(f"min_epochs is {self.min_epochs} and the run has {run.epochs} epochs")
        if run.steps is None:
            return found
        for name, count in (("min_iterations", self.min_iterations), ("warmup_iterations", self.warmup_iterations)):
            if count >= run.steps:
                found.append(f"{name} is {count} and the run has {run.steps} steps")
        if self.criteria == ("plateau",) and self.warmup_iterations + self.shortest_wait >= run.steps:
            found.append(
                f"a plateau takes {self.shortest_wait} steps after the warm-up of {self.warmup_iterations}"
                f" and the run has {run.steps} steps"
            )
        return found

    @property
    def shortest_wait(self) -> int:
        """Steps after which a plateau is confirmed at the earliest."""
        return min(self.patience, self.max_no_improvement)


class EarlyStoppingBrain:
    """Decides when a training is over.

    An improvement counts if it is above ``min_improvement`` or above ``improvement_threshold`` times the best's
    absolute value, measured from the last best that counted, so that many small steps add up. A verdict is formed anew
    at every judgement and never kept: a run that improves is not stopped by what was seen before.

    A learning rate that was flat between the last two judgements and then fell by more than 10 % was dropped by a
    schedule with steps: the wait starts anew, as the drop may bring the next improvement, and once more only after it
    has brought one. So a rate that falls all the time (cosine, exponential, many small steps) does not postpone a stop
    for ever.

    Args:
        settings: What the user wrote.
    """

    def __init__(self, settings: EarlyStoppingSettings) -> None:
        self._settings = settings
        self._criteria = tuple(_criteria(settings))
        self.history = History()

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
        """
        settings = self._settings
        if rate is not None:
            self.history.take_in_rate(rate, step=step)
        if step < settings.warmup_iterations:
            return None
        loss = train_loss if train_loss is not None and math.isfinite(train_loss) else math.inf
        now = Judgement(step=step, metric=metric, higher_is_better=higher_is_better, train_loss=loss)
        self.history.take_in(now, counts=self._counts)
        if not may_stop or step < settings.min_iterations or epochs_done < settings.min_epochs:
            return None
        for criterion in self._criteria:
            numbers = criterion.verdict(self.history, now)
            if numbers is not None:
                return self._stop(now, epoch, criterion.reason, numbers)
        return None

    def restart_wait(self, step: int) -> None:
        """Something changed that may bring the next improvement: patience and strips start anew from here."""
        self.history.restart_wait(step)

    def forget_after(self, snapshot_step: int, *, step: int) -> None:
        """The weights went back to those of ``snapshot_step``: what was judged after it is forgotten."""
        self.history.forget_after(snapshot_step, step=step)

    def state_dict(self) -> dict[str, Any]:
        """All that a decision depends on, as JSON-able values."""
        return dumped(self.history)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that ``state_dict`` gave."""
        self.history = restored(History, state)

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
        yield Plateau(patience=settings.patience, max_no_improvement=settings.max_no_improvement)
