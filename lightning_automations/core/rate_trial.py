"""The first steps of a fit: is the given learning rate usable, or has the network to start again with a lower one?

Every plateau scheduler takes a loss that does not move for a rate that is too high. At the start it may as well be too
low, and a network that a far too high rate has destroyed does not move either. The gradient tells the first apart: it
still points where the weights have gone. The second is found by starting again with a lower rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lightning_automations.core.rate_evidence import end_level_of, error_of_end_level, slope_of, usual_noise_of

__all__ = ["Attempt", "Verdict", "verdict_of"]

LONGEST_ATTEMPT_STEPS = 20
"""An attempt of which nothing can be said after ten steps gets ten more."""

# A loss that is a quarter above the start, and further than single losses scatter, has exploded. The loss of the start
# is that of a single batch.
_EXPLODED_RISE = 0.25
_EXPLODED_DEVIATIONS = 5.0
# So far above the start no noise is asked for: an explosion is noisy itself.
_EXPLODED_FAR = 4.0
_SURELY = 2.0
_SURELY_FALLING = -3.0
_BELOW_DEVIATIONS = 3.0


class Verdict(str, Enum):
    """What follows from an attempt."""

    GO_ON = "go_on"
    ACCEPT = "accept"
    LOWER = "lower"
    COME_BACK = "come_back"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One rate, tried from the weights of the start.

    Args:
        level: Where the loss ended; infinite where it was no number.
        noise: Standard deviation of a loss.
    """

    level: float
    noise: float

    @property
    def error(self) -> float:
        """Standard error of the level."""
        return error_of_end_level(self.noise)

    def has_exploded(self, start_loss: float) -> bool:
        """Whether the loss ended surely and far above that of the start."""
        scale = abs(start_loss)
        least = min(max(_EXPLODED_RISE * scale, _EXPLODED_DEVIATIONS * self.noise), _EXPLODED_FAR * scale)
        return self.level - start_loss > least

    def is_clearly_below(self, other: Attempt) -> bool:
        """Whether the loss ended lower than in another attempt, beyond the noise of both."""
        return other.level - self.level > _SURELY * math.hypot(self.error, other.error)


def attempt_of(losses: Sequence[float]) -> Attempt:
    """How an attempt stands after these losses, one or more."""
    return Attempt(level=end_level_of(losses), noise=usual_noise_of(losses))


def verdict_of(losses: Sequence[float], *, start_loss: float, points_on: bool, before: Attempt | None) -> Verdict:
    """What to do after so many steps of an attempt.

    Args:
        losses: The losses of its steps, ten or more.
        start_loss: The loss before the first step.
        points_on: Whether the gradient surely points on along the way gone.
        before: The attempt with a higher rate before this one, or None.
    """
    attempt = attempt_of(losses)
    exploded = attempt.has_exploded(start_loss)
    # The level as well as the slope: one spike spoils a slope.
    is_below = start_loss - attempt.level > _BELOW_DEVIATIONS * attempt.noise
    falls = attempt.level < start_loss and (is_below or slope_of(losses) < _SURELY_FALLING)
    if points_on or (falls and not exploded):
        return Verdict.ACCEPT
    is_long = len(losses) >= LONGEST_ATTEMPT_STEPS
    if before is None:
        return Verdict.LOWER if exploded or is_long else Verdict.GO_ON
    if attempt.is_clearly_below(before) and exploded:
        return Verdict.LOWER
    if attempt.is_clearly_below(before) and attempt.level < start_loss - attempt.error:
        return Verdict.ACCEPT
    if not is_long:
        return Verdict.GO_ON
    # A lower rate did not help. After an explosion the loss is as high as that by nature, and this rate is fine.
    return Verdict.ACCEPT if before.has_exploded(start_loss) else Verdict.COME_BACK
