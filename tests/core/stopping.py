"""Runs the early stopper's brain over curves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lightning_automations.core.decision import Adjustment
from lightning_automations.core.early_stopping import EarlyStoppingBrain
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings

INTERVAL = 10
OPEN = {"min_epochs": 0, "min_iterations": 0, "warmup_iterations": 0}
NEVER = 10**9
FALLING = [1.0 - 0.01 * index for index in range(60)]


def settings(**changes: Any) -> EarlyStoppingSettings:
    """Settings without gates whose patience is three judgements."""
    return EarlyStoppingSettings(**{**OPEN, "patience": 3 * INTERVAL, "max_no_improvement": NEVER, **changes})


def judge(brain: EarlyStoppingBrain, index: int, metric: float, **more: Any) -> Adjustment | None:
    """One judgement; they are an epoch and ten steps apart."""
    given_values: dict[str, Any] = {"higher_is_better": False, **more}
    return brain.observe(step=INTERVAL * (index + 1), epoch=index, epochs_done=index + 1, metric=metric, **given_values)


def first_stop(brain: EarlyStoppingBrain, curve: Iterable[float], **more: Any) -> tuple[int, Adjustment] | None:
    """Index and verdict of the first stop, or None."""
    for index, metric in enumerate(curve):
        adjustment = judge(brain, index, metric, **more)
        if adjustment is not None:
            return index, adjustment
    return None
