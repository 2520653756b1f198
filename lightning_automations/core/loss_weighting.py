"""Ways to weigh the terms of a loss, one small pure class each.

All take the sizes of the terms (smoothed absolute values, above 0) and give one weight for each. The sum of the weights
stays what it was given as, so that the learning rate keeps its meaning; ``Magnitudes`` keeps the size of the loss.
``GradNorm`` also takes the norms of the terms' gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

__all__ = [
    "DynamicWeightAverage",
    "GradNorm",
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
        shares: The shares of the loss that the terms should have, for ``GradNorm`` of the norms; they add up to 1.
        norms: Of the gradients of the unweighted terms, above 0; only for ``GradNorm``.
        looks_back: Whether ``RelativeBalancing`` compares with the start this time.
    """

    now: Weights
    before: Weights
    start: Weights
    given: Weights
    weights: Weights
    shares: Weights
    norms: Weights = field(default_factory=dict)
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

    Other than in the paper, where a look-back takes the place of the weights that held (its share is ``momentum``) and
    the change since the decision before always counts, a look-back here takes the place of that change.

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


@dataclass(frozen=True)
class GradNorm:
    """Terms pull equally hard at the shared parameters, and harder where they have fallen less.

    Chen, Badrinarayanan, Lee, Rabinovich: GradNorm (ICML 2018, arXiv:1711.02257). The weighted norm of a term is to be
    the mean of all, times how much of the term is left in comparison with the others, to the power of ``asymmetry``
    (equation 1). The weights go down the gradient of the sum of the absolute distances (equation 2), and get back
    their sum. Other than in the paper, the targets are in proportion to the shares, which may be uneven, and add up to
    the sum of the norms: weights whose sum is given could not reach others, and would run away. The step is made in
    the logarithm of a weight, relative to the mean norm, so that no unit matters and no weight becomes negative, and
    it ends where the distance is 0.

    Args:
        rate: Size of a step, above 0 and at most 1: of the logarithm of a weight whose norm is the mean.
        asymmetry: The paper's alpha, 0 or more.
    """

    rate: float
    asymmetry: float

    def weigh(self, sizes: Sizes) -> dict[str, float]:
        pulls = {name: sizes.weights[name] * norm for name, norm in sizes.norms.items()}
        left = {name: size / sizes.start[name] for name, size in sizes.now.items()}
        mean_left, mean_pull = fmean(left.values()), fmean(pulls.values())
        favoured = {name: self.asymmetry * math.log(size / mean_left) for name, size in left.items()}
        wanted = _softmax({name: _log(share) + favoured[name] for name, share in sizes.shares.items()}, 1.0)
        current = shares_of(pulls)
        logarithms = {}
        for name, pull in pulls.items():
            distance = _log(current[name]) - _log(wanted[name])
            step = math.copysign(min(self.rate * pull / mean_pull, abs(distance)), distance)
            logarithms[name] = math.log(sizes.weights[name]) - step
        total = math.fsum(sizes.given.values())
        return {name: total * share for name, share in _softmax(logarithms, 1.0).items()}


def shares_of(values: Weights) -> dict[str, float]:
    """Each value as a share of their sum, which is above 0."""
    total = math.fsum(values.values())
    return {name: value / total for name, value in values.items()}


def _log(share: float) -> float:
    return math.log(max(share, 1e-300))  # what is left of a high power may be 0


def _softmax(values: Weights, temperature: float) -> dict[str, float]:
    largest = max(values.values())
    return shares_of({name: math.exp((value - largest) / temperature) for name, value in values.items()})


def _times_given(given: Weights, shares: Weights) -> dict[str, float]:
    """The given weights times these shares, with the sum of the given weights."""
    products = shares_of({name: given[name] * share for name, share in shares.items()})
    total = math.fsum(given.values())
    return {name: total * share for name, share in products.items()}
