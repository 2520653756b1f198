"""What goes wrong in a run, and how badly. Fixed before any rule was tuned.

A scenario is changed only with a note in RESULTS.md. The fault kinds are those on which clipping rules were compared
before this package existed; a fault multiplies the loss of a step, so that gradient and reported loss show it together,
as they do when a batch is corrupt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from benchmarks.tables import row_named

__all__ = ["SCENARIOS", "Family", "Scenario", "scenario_named"]

Factors = Callable[[int, random.Random], list[float]]
"""Steps of the run and a source of randomness to what the loss of each step is multiplied with."""

SPIKE_SHARE = 0.02
SPIKE_EXPONENTS = (2.0, 4.0)
"""A spike multiplies the loss by 10 to a power between these."""
SPIKES_IN_A_ROW_OF_STEPS = 3
SHORT_SHARE = 0.05
"""Warm-up and end of a run, as shares of its steps."""
NON_FINITE_AT = 0.4
TINY_UNIT = 1e-4


class Family(str, Enum):
    """What kind of trouble a scenario is."""

    CLEAN = "clean"
    RATE = "rate"
    FAULT = "fault"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of trouble.

    Args:
        name: As it stands in tables and result files.
        family: Which study it belongs to; the clean scenario belongs to all.
        summary: What happens, with its strength.
        rate_factor: The initial learning rate, as a multiple of the tuned one.
        factors: What the loss of each step is multiplied with; None: nothing.
        loss_unit: The unit in which the loss is reported. SGD's rate is given in the same unit, as its user would have
            tuned it; AdamW's does not depend on it.
        finite: Whether every loss and gradient of the fault itself is finite.
        within_bounds: Whether the default bounds of the automations reach far enough to help: only these count in the
            headline success rate.
    """

    name: str
    family: Family
    summary: str
    rate_factor: float = 1.0
    factors: Factors | None = None
    loss_unit: float = 1.0
    finite: bool = True
    within_bounds: bool = True

    def loss_factors(self, *, steps: int, seed: int) -> list[float]:
        """What the loss of each step is multiplied with, unit included; the same for every method of a seed."""
        source = random.Random(f"{self.name} {seed}")
        factors = [1.0] * steps if self.factors is None else self.factors(steps, source)
        return [self.loss_unit * factor for factor in factors]


def _spike(source: random.Random) -> float:
    return 10 ** source.uniform(*SPIKE_EXPONENTS)


def _random_spikes(steps: int, source: random.Random) -> list[float]:
    return [_spike(source) if source.random() < SPIKE_SHARE else 1.0 for _ in range(steps)]


def _spikes_between(first: float, last: float) -> Factors:
    """Three spikes between two shares of the run, the very first step left out."""

    def factors(steps: int, source: random.Random) -> list[float]:
        where = range(max(1, round(first * steps)), max(SPIKES_IN_A_ROW_OF_STEPS + 1, round(last * steps)))
        spiked = set(source.sample(where, SPIKES_IN_A_ROW_OF_STEPS))
        return [_spike(source) if step in spiked else 1.0 for step in range(steps)]

    return factors


def _once(value: float) -> Factors:
    """One step with a loss that is not finite."""

    def factors(steps: int, _: random.Random) -> list[float]:
        struck = round(NON_FINITE_AT * steps)
        return [value if step == struck else 1.0 for step in range(steps)]

    return factors


def _nan_and_spikes(steps: int, source: random.Random) -> list[float]:
    factors = _random_spikes(steps, source)
    for step in source.sample(range(1, steps), 3):
        factors[step] = math.nan
    return factors


def _from(share: float, factor: float) -> Factors:
    """Another weight of the loss from a share of the run on."""

    def factors(steps: int, _: random.Random) -> list[float]:
        return [1.0 if step < share * steps else factor for step in range(steps)]

    return factors


def _until(share: float, factor: float) -> Factors:
    """Another weight of the loss up to a share of the run."""

    def factors(steps: int, _: random.Random) -> list[float]:
        return [factor if step < share * steps else 1.0 for step in range(steps)]

    return factors


def _rate(factor: float, *, within_bounds: bool = False) -> Scenario:
    return Scenario(
        name=f"rate x{factor:g}",
        family=Family.RATE,
        summary=f"initial learning rate {factor:g} times the tuned one",
        rate_factor=factor,
        within_bounds=within_bounds,
    )


def _fault(name: str, summary: str, factors: Factors, *, finite: bool = True, loss_unit: float = 1.0) -> Scenario:
    return Scenario(
        name=name, family=Family.FAULT, summary=summary, factors=factors, finite=finite, loss_unit=loss_unit
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="clean", family=Family.CLEAN, summary="nothing goes wrong; the tuned learning rate"),
    # The default bounds of the factor are 0.1 and 2: a rate ten times too high is within reach, one ten times too low
    # is not.
    _rate(0.001),
    _rate(0.01),
    _rate(0.1),
    _rate(10, within_bounds=True),
    _rate(100),
    _fault("random spikes", "2 % of all steps have a loss 100 to 10,000 times too high", _random_spikes),
    _fault("spikes in warm-up", "three such spikes in the first 5 % of the steps", _spikes_between(0, SHORT_SHARE)),
    _fault(
        "spikes near the end", "three such spikes in the last 5 % of the steps", _spikes_between(1 - SHORT_SHARE, 1)
    ),
    _fault("one NaN", "the loss of one step is NaN, after 40 % of the run", _once(math.nan), finite=False),
    _fault("one inf", "the loss of one step is infinite, after 40 % of the run", _once(math.inf), finite=False),
    _fault("NaN and spikes", "random spikes, and three losses that are NaN", _nan_and_spikes, finite=False),
    _fault("loss x10 half-way", "the loss weighs ten times as much from the middle on", _from(0.5, 10)),
    _fault("loss x0.1 half-way", "the loss weighs a tenth from the middle on", _from(0.5, 0.1)),
    _fault("loss x0.01 at first", "the loss weighs a hundredth for the first third", _until(1 / 3, 0.01)),
    _fault(
        "tiny loss unit",
        "random spikes in a loss whose unit is 10,000 times smaller",
        _random_spikes,
        loss_unit=TINY_UNIT,
    ),
)


def scenario_named(name: str) -> Scenario:
    """The scenario of this name.

    Raises:
        ValueError: If there is none.
    """
    return row_named(name, SCENARIOS)
