"""The settings of ``IntelligentLearningRateScheduler``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import TypedDict

from lightning_automations.core.errors import Problem
from lightning_automations.core.settings import AutomationSettings

__all__ = ["LearningRateFallback", "LearningRateSettings"]


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
            is at most a fifth of the run, and grows with it: to a fifth of the steps until the last improvement, since
            progress gets ever slower.
        improvement_threshold: Relative improvement over the best (against its absolute value) that restarts the
            patience; 0 or more, below 1.
        min_lr_factor: The lowest factor on the scheduled rate; above 0, at most 1.
        max_lr_factor: The highest factor on the scheduled rate; 1 to 1e6.
        find_start: Try the given rate in the first steps of a fresh fit. Where the loss rises or does not move, the
            weights of the start come back and a lower rate is tried; if none does clearly better, the given one holds.
        raise_rate: Raise the factor while the gradient surely points on along the way gone, or, where the loss is too
            noisy to tell, while the metric improves at the same speed; up to ``max_lr_factor``.
        snapshots: Where copies of weights and optimizer state are kept to which a diverged run goes back: ``host``,
            ``device``, or ``none``, and no run goes back. Two of them, each as large as weights, buffers and the
            optimizer's state together.
        snapshot_interval_steps: Optimizer steps between two snapshots, 1 or more. Not written, it is at most a
            twentieth of the run.
        max_rollbacks: How often a run goes back, 0 or more; from then on a divergence only cuts the rate.
        anneal_share: Last share of a run of known length over which the factor falls in a straight line to
            ``min_lr_factor``; 0 (off) to 1. Off where the scheduled rate has fallen by then.
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
    shares_of_steps: ClassVar[Mapping[str, float]] = {"plateau_patience": 0.2, "snapshot_interval_steps": 0.05}

    monitor_loss: bool = True
    monitor_validation: bool = True
    monitor_metric: str | None = None
    mode: Literal["auto", "min", "max"] = "auto"
    adaptation_threshold: Annotated[float, Gt(0), Le(10)] = 0.02
    plateau_patience: Annotated[int, Ge(1)] = 1000
    improvement_threshold: Annotated[float, Ge(0), Lt(1)] = 0.001
    min_lr_factor: Annotated[float, Gt(0), Le(1)] = 0.1
    max_lr_factor: Annotated[float, Ge(1), Le(1e6)] = 2.0
    find_start: bool = True
    raise_rate: bool = True
    snapshots: Literal["host", "device", "none"] = "host"
    snapshot_interval_steps: Annotated[int, Ge(1)] = 500
    max_rollbacks: Annotated[int, Ge(0)] = 10
    anneal_share: Annotated[float, Ge(0), Le(1)] = 0.25
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
