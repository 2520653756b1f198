"""The median of a few ratios, and between which of them the true one lies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MedianInterval", "median_interval"]


@dataclass(frozen=True)
class MedianInterval:
    """A median with the sign-test interval around it, which assumes nothing of how the values are spread.

    Args:
        median: Of the values.
        low: Lower end, one of the values.
        high: Upper end, one of the values.
        coverage: Share of such intervals that hold the true median; below what was asked for where values are few.
        count: Number of values.
    """

    median: float
    low: float
    high: float
    coverage: float
    count: int


def median_interval(values: Sequence[float], *, confidence: float = 0.95) -> MedianInterval:
    """The median and the shortest sign-test interval of at least this confidence, or the widest there is.

    Args:
        values: One or more, independent.
        confidence: Above 0 and below 1.

    Raises:
        ValueError: Without a value.

    Example:
        >>> found = median_interval([1.01, 1.02, 1.03, 1.04, 1.05, 1.06])
        >>> found.low, found.high, round(found.coverage, 3)
        (1.01, 1.06, 0.969)
    """
    if not values:
        raise ValueError("expected one value or more")
    ordered, count = sorted(values), len(values)
    cut = 0
    while 2 * (cut + 1) < count and _coverage(count, cut + 1) >= confidence:
        cut += 1
    return MedianInterval(
        median=statistics.median(ordered),
        low=ordered[cut],
        high=ordered[count - 1 - cut],
        coverage=_coverage(count, cut),
        count=count,
    )


def _coverage(count: int, cut: int) -> float:
    """How often the true median lies between the values that remain when ``cut`` are left out at either end."""
    beyond = sum(math.comb(count, place) for place in range(cut + 1)) / float(2**count)
    return max(0.0, 1 - 2 * beyond)
