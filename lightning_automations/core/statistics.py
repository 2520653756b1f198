"""Small, pure, bounded statistics for the brains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

__all__ = ["finite", "line_through", "mean", "median_absolute_deviation", "pushed", "quantile"]

# For normally distributed values 1.4826 x the median absolute deviation is the standard deviation.
_NORMAL_CONSISTENCY = 1.4826


def pushed(values: tuple[float, ...], value: float, *, size: int) -> tuple[float, ...]:
    """The last ``size`` of the values with one more at the end."""
    return (*values, value)[-size:]


def finite(values: Sequence[float]) -> list[float]:
    """The values that are neither NaN nor infinite."""
    return [value for value in values if math.isfinite(value)]


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def line_through(values: Sequence[float], places: Sequence[float]) -> tuple[float, float]:
    """Slope of the least-squares line through the values, and its standard error.

    Args:
        values: Three or more.
        places: Where they stand, not all the same.
    """
    middle, centre = mean(places), mean(values)
    spread = math.fsum((place - middle) ** 2 for place in places)
    pairs = list(zip(places, values, strict=True))
    slope = math.fsum((place - middle) * (value - centre) for place, value in pairs) / spread
    rest = math.fsum((value - centre - slope * (place - middle)) ** 2 for place, value in pairs)
    return slope, math.sqrt(rest / (len(values) - 2) / spread)


def median_absolute_deviation(values: Sequence[float]) -> float:
    """The spread of the middle half, scaled to equal the standard deviation of normal values; 0 of nothing."""
    if not values:
        return 0.0
    centre = median(values)
    return _NORMAL_CONSISTENCY * median(abs(value - centre) for value in values)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of the values lies below, between two of them by the straight line.

    Args:
        ordered: Values in ascending order, one or more.
        share: 0 to 1.
    """
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
