"""Published rules that have no class to call: Prechelt's three, and AutoGluon's adaptive patience.

L. Prechelt, Early stopping - but when? 1998. A strip is five validations, as there. In the formulas below the losses
must be above 0, as they are on every task of the scoreboard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.stopping.curve import Validation

__all__ = ["STRIP_LENGTH", "AdaptivePatience", "GeneralizationLoss", "ProgressQuotient", "SuccessiveRises"]

STRIP_LENGTH = 5


@dataclass
class GeneralizationLoss:
    """GL: stop when the loss is more than so many percent above the lowest so far.

    Args:
        percent: The threshold.
    """

    percent: float
    _lowest: float = field(default=math.inf, init=False)

    def __call__(self, now: Validation) -> bool:
        return self.value(now) > self.percent

    def value(self, now: Validation) -> float:
        """Percent by which the loss is above the lowest so far, itself included."""
        self._lowest = min(self._lowest, now.loss)
        return 100 * (now.loss / self._lowest - 1)


@dataclass
class ProgressQuotient:
    """PQ: stop at the end of a strip when the generalization loss is too large for the progress in training.

    Progress is by how many thousandths the mean training loss of the strip is above the lowest in it.

    Args:
        quotient: The threshold of generalization loss over progress.
    """

    quotient: float
    _loss: GeneralizationLoss = field(default_factory=lambda: GeneralizationLoss(math.inf), init=False)
    _strip: list[float] = field(default_factory=list, init=False)

    def __call__(self, now: Validation) -> bool:
        generalization_loss = self._loss.value(now)
        self._strip.append(now.training_loss)
        if len(self._strip) < STRIP_LENGTH:
            return False
        progress = 1000 * (sum(self._strip) / (STRIP_LENGTH * min(self._strip)) - 1)
        self._strip.clear()
        # Multiplied out: a strip without any progress stops a loss that is above its lowest, and no other.
        return generalization_loss > self.quotient * progress


@dataclass
class SuccessiveRises:
    """UP: stop when the loss at the end of a strip was higher than at the end of the strip before, so often in a row.

    Args:
        rises: How often.
    """

    rises: int
    _seen: int = field(default=0, init=False)
    _in_a_row: int = field(default=0, init=False)
    _before: float = field(default=math.inf, init=False)

    def __call__(self, now: Validation) -> bool:
        self._seen += 1
        if self._seen % STRIP_LENGTH:
            return False
        self._in_a_row = self._in_a_row + 1 if now.loss > self._before else 0
        self._before = now.loss
        return self._in_a_row >= self.rises


@dataclass
class AdaptivePatience:
    """AutoGluon's: stop after ``rate`` times the best round, plus ``offset``, rounds without a new best.

    Rounds are validations, counted from 0.

    Args:
        rate: Share of the best round.
        offset: Rounds on top, and the fewest that are waited.
    """

    rate: float = 0.3
    offset: int = 10
    _round: int = field(default=-1, init=False)
    _best_round: int = field(default=0, init=False)
    _lowest: float = field(default=math.inf, init=False)

    def __call__(self, now: Validation) -> bool:
        self._round += 1
        if now.loss < self._lowest:
            self._lowest, self._best_round = now.loss, self._round
            return False
        return self._round - self._best_round >= round(self.rate * self._best_round + self.offset)
