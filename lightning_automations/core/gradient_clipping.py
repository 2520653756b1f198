"""At which norm gradients are clipped: the settings and the decision."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from typing_extensions import Self, TypedDict

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.gradient_level import ENOUGH_NORMS, LevelState
from lightning_automations.core.settings import AutomationSettings
from lightning_automations.core.state import dumped, restored

__all__ = ["GradientClippingBrain", "GradientClippingFallback", "GradientClippingSettings"]

PositiveNorm = Annotated[float, Gt(0), Lt(math.inf)]

THRESHOLD_SPREADS = 3.0
"""The threshold lies this many spreads above the usual level, on the logarithm."""
ROOM_BELOW = 10.0
"""``min_threshold`` that is not written lies no higher than the usual level over this."""
ROOM_ABOVE = 3.0
"""``max_threshold`` that is not written lies no lower than the first usual level times this."""
BLIND = 10.0
"""From this many times the usual level on, a threshold protects from nothing."""
LARGEST_LOGARITHM = 700.0
"""Beyond it the exponential is no float."""


class GradientClippingFallback(TypedDict, total=False):
    """What holds once the automation has retired; ``threshold`` is 1.0 where it is not written."""

    threshold: PositiveNorm


@dataclass(frozen=True, kw_only=True)
class GradientClippingSettings(AutomationSettings):
    """Settings of ``AdaptiveGradientClipping``.

    Args:
        initial_threshold: Largest norm until enough norms have been seen, above 0. Not written, it is brought inside
            the bounds; written, it moves a bound that is not.
        min_threshold: Smallest threshold, above 0. See below.
        max_threshold: Largest threshold, above 0, at least ``min_threshold``. See below.
        adjustment_factor: Largest relative change of the threshold at one decision, above 1. The first threshold of a
            history and a confirmed change of level are followed at once.
        monitoring_frequency: Optimizer steps between decisions, 1 or more.
        gradient_history_size: Norms that the statistics are taken over, 2 or more.
        method: The rule that makes a threshold of the norms. ``median_mad``: median plus three median absolute
            deviations of the logarithm of the norms before clipping.
        skip_nonfinite: ``exact`` skips a step with NaN or infinity in its gradients, at the cost of one read of one
            flag a step; ``zero`` sets such gradients to zero without a read, where momentum and weight decay still
            act; ``off`` (or false, as YAML reads it) does neither.
        max_adjustments: Counted changes before it retires. A change counts when the threshold leaves the last counted
            one by more than ``adjustment_factor``.
        fallback: ``threshold``, the constant largest norm once retired, above 0.
        enabled, on_error, dry_run, journal: As in ``AutomationSettings``.

    The bounds are absolute norms where they are written, and are held whatever the unit of the loss; a run whose usual
    norm lies outside of them is told so once. Where they are not written they are those of a loss in an ordinary unit
    and make room for another: the upper one is at least three times the usual norm at the first decision, the lower one
    at most a tenth of the usual norm now. The room upward is fixed once, because a run that blows up raises its usual
    norm: it is at most thirty times the very first norm, which no learning rate has touched. A change of the loss that
    raises the norms for good is then clipped at the upper bound. A resumed run keeps to the bounds written now.

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
    method: Literal["median_mad"] = "median_mad"
    skip_nonfinite: Literal["exact", "zero", "off", False] = "exact"
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


class GradientClippingBrain:
    """Derives a threshold from the norms of unclipped gradients, for each optimizer apart.

    The threshold lies three spreads above the usual level: median and median absolute deviation of the logarithm of the
    last ``gradient_history_size`` norms, which a few outliers do not move. Until there are that many, the spread counts
    as 0.3 at most. The threshold was fixed before the norm that it is
    applied to was seen, so no outlier lifts its own limit. Until 8 norms are known ``initial_threshold`` holds; then
    the first threshold is taken as it is, and from there on it drifts by ``adjustment_factor`` a decision at most. It
    stays where it is while the history asks for one within a spread of it: a hundred norms do not say it more exactly
    (measured: without this the noise of a steady run makes 100 counted changes in 11,000 steps).
    Eight norms in a row beyond the band on the same side are no outliers but a new level: the old history is dropped
    and the threshold follows at once.

    Args:
        settings: The settings.
        written: Names of the settings that the user wrote. A bound that is written is an absolute norm.

    Every adjustment carries ``usual_norm``, ``spread`` and ``norms``: the threshold that is followed at once is
    ``usual_norm * exp(3 * spread)`` inside the bounds, and drift goes towards it.
    """

    def __init__(self, settings: GradientClippingSettings, *, written: Collection[str] = ()) -> None:
        self.settings = settings
        self._low_written, self._high_written = "min_threshold" in written, "max_threshold" in written
        self._low, self._high, initial = settings.min_threshold, settings.max_threshold, settings.initial_threshold
        if "initial_threshold" in written:
            # What is written holds: a bound that is not written gives way.
            self._low = self._low if self._low_written else min(self._low, initial)
            self._high = self._high if self._high_written else max(self._high, initial)
        self._initial = min(max(initial, self._low), self._high)
        self._levels: dict[int, LevelState] = {}

    def threshold(self, optimizer: int = 0) -> float:
        """The largest norm that holds now for the optimizer of this index."""
        return self._level(optimizer).threshold

    def usual(self, optimizer: int = 0) -> float:
        """The norm that far outliers are brought to: the usual one, or the threshold where that is lower or all."""
        level = self._level(optimizer)
        return level.threshold if level.centre is None else min(math.exp(level.centre), level.threshold)

    def observe(
        self, *, step: int, epoch: int, norms: Sequence[float], optimizer: int = 0, parameter: str = "threshold"
    ) -> Adjustment | None:
        """Take up the norms since the last decision and set the threshold.

        Args:
            step: Optimizer steps done.
            epoch: The epoch.
            norms: Norms before clipping, oldest first. Those that are zero or not finite leave no trace.
            optimizer: Index of the optimizer that they belong to.
            parameter: What the adjustment calls the threshold.

        Returns:
            The change against the threshold that was counted last, once it is above ``adjustment_factor``; None for
            smaller moves, which are made all the same.
        """
        level = self._level(optimizer)
        for norm in norms:
            if 0 < norm < math.inf:
                level.see(math.log(norm), size=self.settings.gradient_history_size)
        if len(level.norms) < self._enough():
            return None
        self._set_threshold(level)
        old = level.counted
        if abs(math.log(level.threshold / old)) <= math.log(self.settings.adjustment_factor):
            return None
        level.counted = level.threshold
        return Adjustment(
            step=step,
            epoch=epoch,
            automation=self.settings.automation,
            parameter=parameter,
            old=old,
            new=level.threshold,
            reason=Reason.GRADIENT_LEVEL,
            evidence=level.evidence(),
        )

    def bounds_problem(self, optimizer: int = 0) -> str | None:
        """How the bounds do not fit the norms of this optimizer, as a sentence, or None where they do."""
        level = self._level(optimizer)
        if level.centre is None or level.first_centre is None:
            return None
        usual = math.exp(level.centre)
        low, high = self._bounds(level.centre, level.first_centre)
        if level.threshold == high < usual:
            bound = f"{high:g}" if self._high_written else f"{high:.4g}, as it is not written"
            return f"the usual gradient norm is above max_threshold ({bound}): most steps are clipped"
        if level.threshold == low > BLIND * usual:
            return f"the usual gradient norm is far below min_threshold ({low:g}): only huge ones are clipped"
        return None

    def start_anew(self) -> None:
        """Drop all histories; thresholds stay until enough norms are known again."""
        for level in self._levels.values():
            level.norms, level.beyond, level.centre = (), (), None

    def state_dict(self) -> dict[str, Any]:
        """The state of each optimizer under its index, as text."""
        return {str(index): dumped(level) for index, level in self._levels.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that ``state_dict`` gave; bounds written now hold from the first step on."""
        self._levels = {int(index): restored(LevelState, values) for index, values in state.items()}
        for level in self._levels.values():
            if level.first_centre is None:
                level.threshold = level.counted = self._initial
            if self._low_written:
                level.threshold = max(level.threshold, self._low)
            if self._high_written:
                level.threshold = min(level.threshold, self._high)

    def _level(self, optimizer: int) -> LevelState:
        if optimizer not in self._levels:
            self._levels[optimizer] = LevelState(threshold=self._initial, counted=self._initial)
        return self._levels[optimizer]

    def _enough(self) -> int:
        return min(ENOUGH_NORMS, self.settings.gradient_history_size)

    def _set_threshold(self, level: LevelState) -> None:
        followed_at_once = level.centre is None
        centre, spread, first_centre = level.measure(size=self.settings.gradient_history_size)
        wanted = centre + THRESHOLD_SPREADS * spread
        if not followed_at_once:
            reach, now = math.log(self.settings.adjustment_factor), math.log(level.threshold)
            if abs(wanted - now) <= spread:
                wanted = now
            wanted = min(max(wanted, now - reach), now + reach)
        low, high = self._bounds(centre, first_centre)
        level.threshold = min(max(math.exp(min(wanted, LARGEST_LOGARITHM)), low), high)

    def _bounds(self, centre: float, first_centre: float) -> tuple[float, float]:
        """The bounds; where they are not written they make room for the unit of the loss."""
        low = self._low if self._low_written else min(self._low, math.exp(centre) / ROOM_BELOW)
        high = self._high if self._high_written else max(self._high, math.exp(first_centre) * ROOM_ABOVE)
        return low, high
