"""At which norm gradients are clipped: the decision."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, median_low
from typing import Any

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings
from lightning_automations.core.gradient_level import ENOUGH_NORMS, TAIL, LevelState
from lightning_automations.core.state import dumped, restored
from lightning_automations.core.statistics import finite, quantile

__all__ = ["GradientClippingBrain", "Limit", "Window"]

NEAREST_START = math.log(3)
FARTHEST_START = math.log(30)
"""Before there are enough norms the threshold lies between 3 and 30 times the median of those that there are."""
LARGE_RISE = math.log(3)
"""A level that rises by more than this is not followed at once."""
SMALL = math.log(10)
"""A level that lies this far below ``initial_threshold`` may be that of a loss that weighs little for a while."""
ROOM_BELOW = 10.0
"""``min_threshold`` that is not written lies no higher than the usual level over this."""
ROOM_ABOVE = 10.0
"""``max_threshold`` that is not written lies no lower than the first usual level times this."""
BLIND = 10.0
"""From this many times the usual level on, a threshold protects from nothing."""
LARGEST_LOGARITHM = 700.0
"""Beyond it the exponential is no float."""


@dataclass(frozen=True)
class Limit:
    """What is left of a gradient, by its norm.

    Args:
        threshold: Largest norm.
        usual: What is left of a far outlier, at most the threshold.
        far: From how many times the threshold on a norm is a far outlier.
    """

    threshold: float
    usual: float
    far: float = 3.0

    @classmethod
    def constant(cls, threshold: float) -> Limit:
        """One that clips at a threshold, and takes no norm for a far outlier."""
        return cls(threshold=threshold, usual=threshold, far=math.inf)

    def left_of(self, norm: float) -> float:
        """The norm after clipping: that of before, the threshold, or the usual one.

        Args:
            norm: Finite, before clipping.
        """
        if norm <= self.threshold:
            return norm
        return self.threshold if norm <= self.far * self.threshold else self.usual

    def is_far(self, norm: float) -> bool:
        """Whether a norm is a far outlier."""
        return norm > self.far * self.threshold


@dataclass(frozen=True)
class Window:
    """The steps between two decisions.

    Args:
        norm: Median of the finite norms before clipping; NaN where there is none.
        norm_after: Likewise, after it.
        clipped_share: Share of all steps whose norm was above the threshold, 0 to 1.
    """

    norm: float = math.nan
    norm_after: float = math.nan
    clipped_share: float = 0.0

    @classmethod
    def of(cls, norms: Sequence[float], limit: Limit) -> Window:
        """The window of these norms before clipping, one or more, under the limit that held for them."""
        usable = finite(norms)
        if not usable:
            return cls()
        return cls(
            norm=median(usable),
            norm_after=median(map(limit.left_of, usable)),
            clipped_share=sum(norm > limit.threshold for norm in usable) / len(norms),
        )


class GradientClippingBrain:
    """Derives a threshold from the norms of unclipped gradients, for each optimizer apart.

    Usual is the median of the last ``gradient_history_size`` norms, and the threshold lies, on the logarithm, three
    times as far above it as their 0.9 quantile does. Less than a tenth of outliers does not move it, and a long tail of
    ordinary norms does not run into it. It was fixed before the norm that it is applied to was seen, so no outlier
    lifts its own limit.

    Until 8 norms are known ``initial_threshold`` holds, brought to between 3 and 30 times the median of those that are
    unless it is written. Then the first threshold is taken as it is, and from there on it drifts by
    ``adjustment_factor`` a decision at most. Eight norms in a row beyond the band of ordinary ones on the same side are
    no outliers but a new level: the old history is dropped, and a level that is lower, or up to three times as high, is
    followed at once.

    A level that is still higher is followed at once as far as ``initial_threshold`` where the old one was less than a
    tenth of that: such a loss weighed little for a while, and its norms come back to what they should be. Else the
    threshold goes to the old usual norm and is let up from there, by ``adjustment_factor`` for each
    ``gradient_history_size`` steps, as long as the new usual norm is higher: a loss that weighs ten times as much from
    one step on is a learning rate ten times too high for SGD, and for Adam until its second moments have caught up.

    Args:
        settings: The settings.
        written: Names of the settings that the user wrote. A bound that is written is an absolute norm.

    Every adjustment carries ``usual_norm``, ``upper_norm`` (the 0.9 quantile) and ``norms``: the threshold that is
    followed at once is ``usual_norm * (upper_norm / usual_norm) ** 3``, at least 1.5 times ``usual_norm`` and at most
    ten times (three times until 60 norms are known), inside the bounds; drift goes towards it.
    """

    def __init__(self, settings: GradientClippingSettings, *, written: Collection[str] = ()) -> None:
        self.settings = settings
        self._low_written, self._high_written = "min_threshold" in written, "max_threshold" in written
        self._start_written = "initial_threshold" in written
        self._low, self._high, initial = settings.min_threshold, settings.max_threshold, settings.initial_threshold
        if self._start_written:
            # What is written holds: a bound that is not written gives way.
            self._low = self._low if self._low_written else min(self._low, initial)
            self._high = self._high if self._high_written else max(self._high, initial)
        self._initial = min(max(initial, self._low), self._high)
        self._levels: dict[int, LevelState] = {}

    def limit(self, optimizer: int = 0) -> Limit:
        """What holds now for the gradients of the optimizer of this index."""
        level = self._level(optimizer)
        centre = level.centre
        if centre is None and level.norms:
            centre = median_low(level.norms)
        if centre is None:  # nothing is known that a norm could be far from
            return Limit.constant(level.threshold)
        return Limit(threshold=level.threshold, usual=min(math.exp(centre), level.threshold))

    def quartiles(self, optimizer: int = 0) -> tuple[float, float]:
        """First and third quartile of the norms in the history; NaN while there are too few for a threshold."""
        norms = sorted(self._level(optimizer).norms)
        if len(norms) < self._enough():
            return math.nan, math.nan
        return math.exp(quantile(norms, 0.25)), math.exp(quantile(norms, 0.75))

    def begins(self, optimizers: Iterable[int]) -> bool:
        """Whether one of these optimizers has made so few steps that each norm should be taken up at once."""
        return any(self._level(optimizer).steps < self._enough() for optimizer in optimizers)

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
        level.steps = min(level.steps + len(norms), self._enough())
        for norm in norms:
            if 0 < norm < math.inf:
                level.see(math.log(norm), size=self.settings.gradient_history_size)
        if len(level.norms) < self._enough():
            self._set_start(level)
            return None
        self._set_threshold(level, norms=len(norms))
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
            level.norms, level.beyond, level.centre, level.steps, level.placed = (), (), None, 0, False

    def state_dict(self) -> dict[str, Any]:
        """The state of each optimizer under its index, as text."""
        return {str(index): dumped(level) for index, level in self._levels.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that ``state_dict`` gave; bounds written now hold from the first step on."""
        self._levels = {int(index): restored(LevelState, values) for index, values in state.items()}
        for level in self._levels.values():
            if level.first_centre is None and self._start_written:
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

    def _set_start(self, level: LevelState) -> None:
        """The threshold of a run that has only begun; after a new start the one that was there stays."""
        if self._start_written or level.first_centre is not None or not level.norms:
            return
        centre = median_low(level.norms)
        near = min(max(math.log(self._initial), centre + NEAREST_START), centre + FARTHEST_START)
        low = self._low if self._low_written else 0.0
        high = self._high if self._high_written else math.inf
        level.threshold = min(max(math.exp(min(near, LARGEST_LOGARITHM)), low), high)

    def _set_threshold(self, level: LevelState, *, norms: int) -> None:
        is_new = level.centre is None
        centre, first_centre = level.measure()
        wanted = centre + level.above
        if not level.placed:
            level.placed = True
        elif is_new:
            wanted = self._after_new_level(level, wanted, centre)
        else:
            wanted = self._drifted(level, wanted, centre, norms=norms)
        low, high = self._bounds(centre, first_centre)
        level.threshold = min(max(math.exp(min(wanted, LARGEST_LOGARITHM)), low), high)

    def _after_new_level(self, level: LevelState, wanted: float, centre: float) -> float:
        """How far the threshold follows a new level at once, as logarithms."""
        if centre - level.old_centre <= LARGE_RISE:
            return wanted
        start = math.log(self._initial)
        if level.old_centre < start - SMALL:
            return min(wanted, start)
        return min(wanted, level.old_centre, math.log(level.threshold))

    def _drifted(self, level: LevelState, wanted: float, centre: float, *, norms: int) -> float:
        """How far the threshold comes on its way to the wanted one, as logarithms."""
        now, drift = math.log(level.threshold), math.log(self.settings.adjustment_factor)
        if abs(wanted - now) <= level.above / TAIL:
            return now  # a hundred norms do not say it more exactly
        if now < centre:
            drift *= norms / self.settings.gradient_history_size
        return min(max(wanted, now - drift), now + drift)

    def _bounds(self, centre: float, first_centre: float) -> tuple[float, float]:
        """The bounds; where they are not written they make room for the unit of the loss."""
        low = self._low if self._low_written else min(self._low, math.exp(centre) / ROOM_BELOW)
        high = self._high if self._high_written else max(self._high, math.exp(first_centre) * ROOM_ABOVE)
        return low, high
