"""What a few steps say about the learning rate: where the gradient points, and how the loss moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from lightning_automations.core.statistics import finite, line_through, mean, median_absolute_deviation

__all__ = [
    "Alignment",
    "alignment_of",
    "end_level_of",
    "error_of_end_level",
    "slope_of",
    "surely_rises",
    "usual_noise_of",
]

LEAST_READINGS = 6
_LAST_LOSSES = 7


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How well the gradient points on along the way that the weights have gone, from several steps.

    Args:
        cosine: The mean cosine, -1 to 1.
        deviations: The mean over its standard error.
    """

    cosine: float
    deviations: float

    def is_surely_positive(self, *, cosine: float, deviations: float) -> bool:
        """Whether more of the same would help: the rate is low."""
        return self.cosine > cosine and self.deviations > deviations


def alignment_of(cosines: Sequence[float]) -> Alignment | None:
    """The alignment of a series of cosines; None where there are too few finite ones."""
    known = finite(cosines)
    if len(known) < LEAST_READINGS:
        return None
    centre = mean(known)
    spread = math.sqrt(math.fsum((value - centre) ** 2 for value in known) / (len(known) - 1))
    error = spread / math.sqrt(len(known))
    # A series without any spread is either as sure as can be, or nothing at all.
    return Alignment(cosine=centre, deviations=centre / error if error > 0 else math.copysign(math.inf, centre))


def slope_of(losses: Sequence[float]) -> float:
    """Slope of a line through the losses over its standard error; below -3 they surely fall. 0 of fewer than three."""
    count = len(losses)
    if count < 3:
        return 0.0
    slope, error = line_through(losses, range(count))
    if error > 0:
        return slope / error
    return math.copysign(math.inf, slope) if slope else 0.0


def surely_rises(values: Sequence[float]) -> bool:
    """Whether a line through the values, three or more, rises by more than their noise: of few values by much more.

    The slope of few points has an error that is itself uncertain, and its ratio to it a long tail (Student's t).
    """
    return len(values) >= 3 and slope_of(values) > 2 + 8 / (len(values) - 2)


def end_level_of(losses: Sequence[float]) -> float:
    """The median of the last seven losses."""
    return median(losses[-_LAST_LOSSES:])


def error_of_end_level(noise: float) -> float:
    """Standard error of the end level, from the standard deviation of a loss."""
    # The median of normal values scatters 1.25 times as much as their mean.
    return 1.25 * noise / math.sqrt(_LAST_LOSSES)


def usual_noise_of(losses: Sequence[float]) -> float:
    """Standard deviation of a loss around its trend, from the usual difference of neighbours: spikes do not count."""
    return median_absolute_deviation([after - before for before, after in pairwise(losses)]) / math.sqrt(2)
