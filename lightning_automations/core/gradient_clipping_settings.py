"""The settings of AdaptiveGradientClipping."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from typing_extensions import Self, TypedDict

from lightning_automations.core.errors import ConfigError, Problem
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
        initial_threshold: Largest norm until enough norms have been seen, above 0; also that up to which a level below
            a tenth of it may rise at once. Not written, it is brought inside the bounds and near the norms that come;
            written, it moves a bound that is not.
        min_threshold: Smallest threshold, above 0. See below.
        max_threshold: Largest threshold, above 0, at least ``min_threshold``. See below.
        adjustment_factor: Largest relative change of the threshold at one decision, above 1. The first threshold of a
            history and a confirmed change of the level are followed at once; where the level has risen more than
            threefold, this is the largest change in ``gradient_history_size`` steps.
        monitoring_frequency: Optimizer steps between decisions, 1 or more.
        gradient_history_size: Norms that the statistics are taken over, 2 or more.
        method: The rule that makes a threshold of the norms before clipping. ``log_quantiles``: on the logarithm, three
            times as far above the median as the 0.9 quantile is; 1.5 to 10 times the median.
        skip_nonfinite: ``exact`` skips a step with NaN or infinity in its gradients, at the cost of one read of one
            flag a step; ``zero`` sets such gradients to zero without a read, where momentum and weight decay still
            act; ``off`` (or false, as YAML reads it) does neither.
        lost_after_steps: Successive steps with non-finite gradients after which the run counts as lost, 1 or more. It
            says so, and stops the run unless another automation brings it back. None: never.
        max_adjustments: Counted changes before it retires. A change counts when the threshold leaves the last counted
            one by more than ``adjustment_factor``.
        fallback: ``threshold``, the constant largest norm once retired, above 0. Not written, it is the threshold that
            held last: 1.0 is no norm for a loss of any unit.
        enabled, on_error, dry_run, journal: As in ``AutomationSettings``.

    The bounds are absolute norms where they are written, and are held whatever the unit of the loss; a run whose usual
    norm lies outside of them is told so once. Where they are not written they are those of a loss in an ordinary unit
    and make room for another: the upper one is at least ten times the usual norm at the first decision, the lower one
    at most a tenth of the usual norm now. The room upward is fixed once, because a run that blows up raises its usual
    norm: it is at most a hundred times the very first norm, which no learning rate has touched. A change of the loss
    that raises the norms for good is then clipped at the upper bound. A resumed run keeps to the bounds written now.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, ``min_threshold`` is above
            ``max_threshold``, or a written ``initial_threshold`` is outside of a written bound.

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
    method: Literal["log_quantiles"] = "log_quantiles"
    skip_nonfinite: Literal["exact", "zero", "off", False] = "exact"
    lost_after_steps: Annotated[int, Ge(1)] | None = 50
    max_adjustments: Annotated[int, Ge(0)] | None = 100
    fallback: GradientClippingFallback = field(default_factory=lambda: GradientClippingFallback(threshold=1.0))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """As for all settings; a written initial threshold and a written bound must not contradict each other."""
        settings = super().from_mapping(values)
        problems = [*settings._written_apart(cls.names_written(values))]
        if problems:
            raise ConfigError(problem.under(cls.automation) for problem in problems)
        return settings

    def _written_apart(self, written: Collection[str]) -> Iterable[Problem]:
        low, initial, high = self.min_threshold, self.initial_threshold, self.max_threshold
        for bound, holds in (("min_threshold", low <= initial), ("max_threshold", initial <= high)):
            if not holds and {"initial_threshold", bound} <= set(written):
                yield Problem(
                    path="initial_threshold",
                    expected=f"a norm from min_threshold ({low}) to max_threshold ({high})",
                    got=str(initial),
                    hint=f"Change initial_threshold, or leave {bound} out: then it makes room.",
                )

    @property
    def fallback_threshold(self) -> float:
        """The largest norm once the automation has retired."""
        return self.fallback.get("threshold", 1.0)
