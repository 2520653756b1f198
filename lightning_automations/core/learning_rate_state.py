"""What ``LearningRateBrain`` has seen of a run; all of it goes into checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LearningRateState"]


@dataclass(kw_only=True)
class LearningRateState:
    """All that the next decision depends on. Metrics are kept such that lower is better.

    Args:
        factor: The factor on the scheduled rate.
        rates: The scheduled rates at the last window.
        windows: Mean losses of the last windows, oldest first.
        best_loss: The last level of the loss that was an improvement; None: there was no level yet.
        metrics: The last metrics, oldest first.
        best_metric: The last metric that was an improvement; None: there was none yet.
        validations_without_improvement: Validations since then.
        improved_at_step: The step from which on the patience counts.
        decisions_rising: Windows in a row after which the loss was surely above its level.
        non_finite_share: Share of the losses of the last window that were NaN or infinite.
        cut_at_step: When the factor was last cut for a divergence.
        held_back: Whether it wanted to go below the lowest factor at some time.
    """

    factor: float = 1.0
    rates: tuple[float, ...] = ()
    windows: tuple[float, ...] = ()
    best_loss: float | None = None
    metrics: tuple[float, ...] = ()
    best_metric: float | None = None
    validations_without_improvement: int = 0
    improved_at_step: int | None = None
    decisions_rising: int = 0
    non_finite_share: float = 0.0
    cut_at_step: int | None = None
    held_back: bool = False
