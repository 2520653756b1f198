"""At which norm gradients are clipped: the settings and the decision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from typing_extensions import TypedDict

from lightning_automations.core.settings import AutomationSettings

__all__ = ["GradientClippingFallback", "GradientClippingSettings"]

PositiveNorm = Annotated[float, Gt(0), Lt(math.inf)]


class GradientClippingFallback(TypedDict, total=False):
    """What holds once the automation has retired; ``threshold`` is 1.0 where it is not written."""

    threshold: PositiveNorm


@dataclass(frozen=True, kw_only=True)
class GradientClippingSettings(AutomationSettings):
    """Settings of ``AdaptiveGradientClipping``.

    Args:
        initial_threshold: Largest norm until enough norms have been seen, above 0; brought inside the bounds.
        min_threshold: Smallest threshold, above 0.
        max_threshold: Largest threshold, above 0, at least ``min_threshold``.
        adjustment_factor: Largest relative change of the threshold at one decision, above 1.
        monitoring_frequency: Optimizer steps between decisions, 1 or more.
        gradient_history_size: Norms that the statistics are taken over, 2 or more.
        method: The rule that makes a threshold of the norms.
        skip_nonfinite: ``exact`` skips a step with NaN or infinity in its gradients, at the cost of one read of one
            flag a step; ``zero`` sets such gradients to zero without a read, where momentum and weight decay still
            act; ``off`` (or false, as YAML reads it) does neither.
        max_adjustments: Counted changes before it retires. A change counts when the threshold leaves the last counted
            one by more than ``adjustment_factor``.
        fallback: ``threshold``, the constant largest norm once retired, above 0.
        enabled, on_error, dry_run, journal: As in ``AutomationSettings``.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, or ``min_threshold`` is above
            ``max_threshold``.

    Example:
        >>> GradientClippingSettings(max_threshold=5.0).fallback
        {'threshold': 1.0}
    """

    automation: ClassVar[str] = "AdaptiveGradientClipping"
    ordered: ClassVar[tuple[tuple[str, str], ...]] = (("min_threshold", "max_threshold"),)

    initial_threshold: PositiveNorm = 1.0
    min_threshold: PositiveNorm = 0.1
    max_threshold: PositiveNorm = 10.0
    adjustment_factor: Annotated[float, Gt(1), Lt(math.inf)] = 1.2
    monitoring_frequency: Annotated[int, Ge(1)] = 10
    gradient_history_size: Annotated[int, Ge(2)] = 100
    method: Literal["median_mad"] = "median_mad"
    skip_nonfinite: Literal["exact", "zero", "off", False] = "exact"
    max_adjustments: Annotated[int, Ge(0)] | None = 100
    fallback: GradientClippingFallback = field(default_factory=lambda: GradientClippingFallback(threshold=1.0))
