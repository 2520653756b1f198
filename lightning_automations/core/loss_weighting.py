"""Ways to weigh the terms of a loss, one small pure class each.

All take the sizes of the terms (smoothed absolute values, above 0) and give one weight for each. The sum of the weights
stays what it was given as, so that the learning rate keeps its meaning; ``Magnitudes`` keeps the size of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "DynamicWeightAverage",
    "Magnitudes",
    "RelativeBalancing",
    "Sizes",
    "Uncertainty",
    "WeightingMethod",
    "shares_of",
]

Weights = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is known of the terms at a decision. All mappings have the same names.

    Args:
        now: Sizes now.
        before: Sizes at the decision before.
        start: Sizes at the start.
        given: The weights to start from, above 0.
        weights: The weights that were last proposed.
        shares: The shares of the loss that the terms should have; they add up to 1.
        looks_back: Whether ``RelativeBalancing`` compares with the start this time.
    """

    now: Weights
    before: Weights
    start: Weights
    given: Weights
    weights: Weights
    shares: Weights
    looks_back: bool = False


class WeightingMethod(Protocol):
    """One way to weigh."""

    def weigh(self, sizes: Sizes) -> dict[str, float]:
        """The weight of each term."""


@dataclass(frozen=True)
class Magnitudes:
    """Each term is brought back towards its share of the loss, as the project's seed document describes it.

    Args:
        rate: Share of the way, on a logarithmic scale, at one decision.
    """

    rate: float

    def weigh(self, sizes: Sizes) -> dict[str, float]:
        current = shares_of({name: sizes.weights[name] * size for name, size in sizes.now.items()})
        return {
            name: weight * (sizes.shares[name] / current[name]) ** self.rate for name, weight in sizes.weights.items()
        }


@dataclass(frozen=True)
class DynamicWeightAverage:
    """Terms that fall more slowly weigh more (Liu, Johns, Davison: End-to-End Multi-Task Learning, 2019).

    Args:
        temperature: Of the softmax over how much of each term is left since the decision before; 2 in the paper.
    """

    temperature: float

    def weigh(self, sizes: Sizes) -> dict[str, float]:
        left = {name: size / sizes.before[name] for name, size in sizes.now.items()}
        return _times_given(sizes.given, _softmax(left, self.temperature))


@dataclass(frozen=True)
class Uncertainty:
    """Weights inversely proportional to the terms.

    That is the minimum over the variances in Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh
    Losses (2018), which Kirchdorfer et al. (2024) take in closed form: nothing is learned along with the network.
    """

    def weigh(self, sizes: Sizes) -> dict[str, float]:
        return _times_given(sizes.given, shares_of({name: 1.0 / size for name, size in sizes.now.items()}))


@dataclass(frozen=True)
class RelativeBalancing:
    """Terms that have fallen less weigh more, with a random look-back (ReLoBRaLo: Bischof and Kraus, 2021).

    Args:
        temperature: Of the softmax over how much of each term is left.
        momentum: Share of the weights that holds from one decision to the next.
    """

    temperature: float
    momentum: float

    def weigh(self, sizes: Sizes) -> dict[str, float]:
        reference = sizes.start if sizes.looks_back else sizes.before
        left = {name: size / reference[name] for name, size in sizes.now.items()}
        fresh = _times_given(sizes.given, _softmax(left, self.temperature))
        return {
            name: self.momentum * sizes.weights[name] + (1 - self.momentum) * weight for name, weight in fresh.items()
        }


def shares_of(values: Weights) -> dict[str, float]:
    """Each value as a share of their sum, which is above 0."""
    total = math.fsum(values.values())
    return {name: value / total for name, value in values.items()}


def _softmax(values: Weights, temperature: float) -> dict[str, float]:
    largest = max(values.values())
    return shares_of({name: math.exp((value - largest) / temperature) for name, value in values.items()})


def _times_given(given: Weights, shares: Weights) -> dict[str, float]:
    """The given weights times these shares, with the sum of the given weights."""
    products = shares_of({name: given[name] * share for name, share in shares.items()})
    total = math.fsum(given.values())
    return {name: total * share for name, share in products.items()}
