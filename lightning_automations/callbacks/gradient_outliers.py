"""What the journal says of the farthest gradient of a period."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lightning_automations.callbacks.gradient_guard import GradientGuard
from lightning_automations.core.gradient_clipping import Limit
from lightning_automations.probes.step_norms import Step, StepNorms

__all__ = ["farthest_outlier"]


def farthest_outlier(
    steps: Sequence[Step], limit: Limit, guard: GradientGuard, *, behind: StepNorms, names: Mapping[int, str]
) -> dict[str, Any] | None:
    """The farthest outlier of a period, and no other: a run full of them must not fill the journal. None: no outlier.

    Args:
        steps: Of one optimizer, one or more.
        limit: What held for them.
        guard: What was done about them.
        behind: Knows the parameter behind a step.
        names: Of the parameters, by their ``id``.
    """
    # An overflow of the scaler is no outlier.
    shown = [step for step in steps if math.isfinite(step.norm) or not guard.scaled]
    farthest = max(shown, key=lambda step: step.norm if math.isfinite(step.norm) else math.inf, default=None)
    if farthest is None or not (limit.is_far(farthest.norm) or math.isnan(farthest.norm)):
        return None
    dominant = behind.dominant(farthest.place, names)
    return {
        "step": farthest.step,
        "norm": _shown(farthest.norm),
        "threshold": limit.threshold,
        "left": _shown(guard.left_of(farthest.norm, limit)),
        "dominant": None if dominant is None else asdict(dominant),
    }


def _shown(norm: float) -> float | str:
    """As JSON knows it."""
    return norm if math.isfinite(norm) else str(norm)
