"""Peak memory as a straight line over the number of samples, from few and noisy observations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["MemoryLine", "level_shift", "line_through", "slope_of", "smallest_above"]

ROUNDING = 1e-6
"""Samples by which a size may miss a whole number through the rounding of its computation."""


@dataclass(frozen=True, kw_only=True)
class MemoryLine:
    """Predicts the share of memory that a number of samples needs.

    The line goes through what was just measured, so that a change of everything else in memory counts at once.

    Args:
        samples: The size that was measured.
        share: Its peak, as a share of the memory.
        slope: Share per further sample, 0 or more.
    """

    samples: int
    share: float
    slope: float

    def share_at(self, samples: int) -> float:
        """The peak of so many samples."""
        return self.share + self.slope * (samples - self.samples)

    def largest_under(self, share: float) -> float:
        """The most samples whose peak stays under a share; infinite where samples need no memory."""
        room = share - self.share
        if self.slope == 0:
            return math.inf if room >= 0 else -math.inf
        return math.floor(self.samples + room / self.slope + ROUNDING)


def slope_of(samples: Sequence[int], shares: Sequence[float], *, baseline: float | None) -> float:
    """Share of memory per sample: the median of the slopes between all sizes seen, 0 or more.

    Args:
        samples: Sizes that were measured, oldest first.
        shares: Their peaks.
        baseline: The share in use before training, which stands for size 0 while only one size was seen. What
            training needs besides (gradients, optimizer states) is then taken for samples: the sizes predicted are too
            small rather than too large. None: unknown.
    """
    # One value for each size keeps the pairs few and the sizes of equal weight.
    by_size: dict[int, list[float]] = {}
    for size, share in zip(samples, shares, strict=True):
        by_size.setdefault(size, []).append(share)
    peaks = {size: median(values) for size, values in by_size.items()}
    if len(peaks) == 1 and baseline is not None:
        peaks[0] = baseline
    sizes = sorted(peaks)
    slopes = [
        (peaks[large] - peaks[small]) / (large - small)
        for place, small in enumerate(sizes)
        for large in sizes[place + 1 :]
    ]
    return max(0.0, median(slopes)) if slopes else 0.0


def line_through(
    samples: Sequence[int], shares: Sequence[float], *, size: int, latest: int, baseline: float | None
) -> MemoryLine | None:
    """The line through the median of what was last observed at one size; None where nothing was.

    Args:
        samples: Sizes that were measured, oldest first.
        shares: Their peaks.
        size: The size in use.
        latest: How many of the last observations count, 1 or more.
        baseline: As for ``slope_of``.
    """
    here = [share for other, share in zip(samples[-latest:], shares[-latest:], strict=True) if other == size]
    if not here:
        return None
    return MemoryLine(samples=size, share=median(here), slope=slope_of(samples, shares, baseline=baseline))


def smallest_above(samples: Sequence[int], shares: Sequence[float], *, share: float) -> float:
    """The smallest size that was observed above a share; infinite where none was."""
    return min((size for size, peak in zip(samples, shares, strict=True) if peak > share), default=math.inf)


def level_shift(samples: Sequence[int], shares: Sequence[float], *, tolerance: float) -> float:
    """By how much all else in memory has changed before the last two observations, as a share of the memory; else 0.

    Two in a row at one size that leave the earlier ones of that size by more than the tolerance, to the same side: a
    neighbour has come or gone. One alone may be noise.

    Args:
        samples: Sizes that were measured, oldest first.
        shares: Their peaks.
        tolerance: Differences up to this are noise.
    """
    earlier = [share for size, share in zip(samples[:-2], shares[:-2], strict=True) if size == samples[-1]]
    if not earlier or samples[-1] != samples[-2]:
        return 0.0
    usual = median(earlier)
    differences = [share - usual for share in shares[-2:]]
    if min(differences) > tolerance or max(differences) < -tolerance:
        return median(differences)
    return 0.0
