"""Whether a noisy series of window means has come down, or surely rises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from lightning_automations.core.statistics import mean, median_absolute_deviation

__all__ = ["Rise", "is_better", "level_of", "noise_of", "noise_of_level", "rise_of"]

# The median of five windows rises only when three of them do: two bad batches are no trend.
_RECENT_WINDOWS = 5
# The level before is the lowest mean of five windows in a row.
_LEVEL_WINDOWS = 5
# Fewer windows before the recent ones say too little about the noise.
_LEAST_WINDOWS_BEFORE = 5
# Windows before the recent ones that are looked at: a level that has held this long is the new normal.
_MOST_WINDOWS_BEFORE = 30


@dataclass(frozen=True, kw_only=True)
class Rise:
    """How far the recent windows are above the level before them.

    Args:
        recent: The recent level.
        before: The best level before.
        noise: Standard deviation of one window.
        windows_before: How many windows the noise was taken from.
    """

    recent: float
    before: float
    noise: float
    windows_before: int

    def is_beyond(self, threshold: float) -> bool:
        """Whether the rise is larger than a relative threshold and cannot be noise.

        The best of many levels lies below their mean, and a noise from few windows is itself uncertain: with six
        standard deviations, and more where windows are few, flat series of any noise tried are left alone.
        """
        scale = max(abs(self.before), self.noise)
        deviations = 4.0 + 60.0 / self.windows_before
        return self.recent - self.before > max(threshold * scale, deviations * self.noise)


def level_of(windows: Sequence[float]) -> float:
    """The mean without the highest and the lowest eighth of the windows, so that rare spikes do not move it."""
    outside = len(windows) // 8
    return mean(sorted(windows)[outside : len(windows) - outside])


def noise_of_level(windows: Sequence[float], count: int) -> float:
    """Standard deviation of the level of so many windows, from the usual difference of neighbours."""
    differences = [after - before for before, after in pairwise(windows)]
    return median_absolute_deviation(differences) / math.sqrt(2 * count)


def noise_of(windows: Sequence[float]) -> float:
    """Standard deviation of single windows around their trend; 0 of fewer than three.

    Taken from the differences of neighbours, so that a slope does not count as noise.
    """
    if len(windows) < 3:
        return 0.0
    differences = [after - before for before, after in pairwise(windows)]
    slope = mean(differences)
    squares = math.fsum((difference - slope) ** 2 for difference in differences)
    return math.sqrt(squares / (len(differences) - 1) / 2)


def rise_of(windows: Sequence[float]) -> Rise | None:
    """The recent windows against those before them; None where there are too few."""
    before = windows[-(_MOST_WINDOWS_BEFORE + _RECENT_WINDOWS) : -_RECENT_WINDOWS]
    if len(before) < _LEAST_WINDOWS_BEFORE:
        return None
    levels = [mean(before[start : start + _LEVEL_WINDOWS]) for start in range(len(before) - _LEVEL_WINDOWS + 1)]
    return Rise(
        recent=median(windows[-_RECENT_WINDOWS:]),
        before=min(levels),
        noise=noise_of(before),
        windows_before=len(before),
    )


def is_better(level: float, best: float | None, *, threshold: float, noise: float) -> bool:
    """Whether a level is below the best by more than a relative threshold and by more than half of its noise.

    The best of many noisy levels is already a low one: asking for more than half takes slow progress for a plateau.

    Args:
        level: The level now; lower is better.
        best: The last level that was better, or None: the first is.
        threshold: Share of the absolute value of the best.
        noise: Standard deviation of the level.
    """
    return best is None or level < best - max(threshold * max(abs(best), noise), noise / 2)
