"""Runs the brain of the learning rate over losses, validations and cosines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.learning_rate import LearningRateBrain
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.progress import WINDOW_STEPS

POINTS_ON = [0.3, 0.31, 0.29, 0.3, 0.32, 0.28, 0.3, 0.31, 0.3, 0.3]
UNDECIDED = [0.1, -0.1] * 5
NEGATIVE = [-value for value in POINTS_ON]


def brain_of(*, steps: int | None = 1000, fresh: bool = False, **settings: Any) -> LearningRateBrain:
    """A brain at the beginning of a fit."""
    brain = LearningRateBrain(LearningRateSettings(**{"max_lr_factor": 100.0, "min_lr_factor": 0.01, **settings}))
    brain.begin(step=0 if fresh else 1, horizon_steps=steps)
    return brain


def window(brain: LearningRateBrain, step: int, level: float = 1.0, **readings: Any) -> Adjustment | None:
    """One window of losses around a level."""
    losses = [level * (1 + 0.01 * (-1) ** place * (place % 3)) for place in range(10)]
    mean = sum(losses) / 10
    usual: dict[str, Any] = {"loss": mean, "losses": losses, "non_finite": 0.0, "rates": (0.1,)}
    return brain.observe(step=step, epoch=0, **{**usual, **readings})


def lost(brain: LearningRateBrain, step: int, **readings: Any) -> Adjustment | None:
    """One window without a finite loss."""
    return brain.observe(step=step, epoch=0, losses=[math.nan] * 10, non_finite=1.0, rates=(0.1,), **readings)


def settled(**settings: Any) -> LearningRateBrain:
    """A brain that has seen a healthy run of 300 steps."""
    brain = brain_of(**settings)
    assert [window(brain, step, can_go_back=True) for step in range(10, 310, 10)] == [None] * 30
    return brain


def watch(losses: Iterable[float], brain: LearningRateBrain | None = None, **settings: Any) -> list[Adjustment]:
    """What the brain does with one loss per window."""
    brain = brain or LearningRateBrain(LearningRateSettings(**settings))
    found = [brain.observe(step=WINDOW_STEPS * (i + 1), epoch=0, loss=loss) for i, loss in enumerate(losses)]
    return [adjustment for adjustment in found if adjustment is not None]


def reasons(adjustments: Iterable[Adjustment]) -> list[Reason]:
    """Why each of them was made."""
    return [adjustment.reason for adjustment in adjustments]


def play(brain: LearningRateBrain, readings: list[Any], *, start: int) -> list[Any]:
    """What the brain says, and where it stands after each."""
    said = []
    for place, item in enumerate(readings, start=start):
        finite = [loss for loss in item["losses"] if not math.isnan(loss)]
        loss = sum(finite) / len(finite) if finite else math.nan
        share = 1 - len(finite) / len(item["losses"]) if item["losses"] else math.nan
        adjustment = brain.observe(step=10 * (place + 1), epoch=0, loss=loss, non_finite=share, **item)
        said.append((adjustment, brain.factor, brain.goes_back, brain.takes_back, brain.is_healthy))
    return said
