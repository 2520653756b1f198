"""The ways to weigh terms, against slow twins and by what they promise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.loss_weighting import (
    DynamicWeightAverage,
    Magnitudes,
    RelativeBalancing,
    Sizes,
    Uncertainty,
    WeightingMethod,
)

NAMES = ("a", "b", "c")
SIZES = st.fixed_dictionaries({name: st.floats(1e-6, 1e6) for name in NAMES})


def sizes_of(
    now: dict[str, float], *, before: dict[str, float] | None = None, start: dict[str, float] | None = None,
    given_weights: dict[str, float] | None = None, looks_back: bool = False,
) -> Sizes:  # fmt: skip
    """Three terms; weights and shares are even unless others are given."""
    even = dict.fromkeys(now, 1.0)
    weights = given_weights or even
    return Sizes(
        now=now,
        before=before or now,
        start=start or now,
        given=weights,
        weights=weights,
        shares={name: 1.0 / len(now) for name in now},
        looks_back=looks_back,
    )


@given(now=SIZES)
def test_magnitudes_with_a_rate_of_one_make_the_shares_exact(now: dict[str, float]) -> None:
    """All the way at once."""
    weights = Magnitudes(1.0).weigh(sizes_of(now))
    parts = [weights[name] * now[name] for name in NAMES]
    assert parts == pytest.approx([parts[0]] * 3, rel=1e-6)


@given(now=SIZES, rate=st.floats(0.01, 1.0))
def test_magnitudes_go_part_of_the_way_on_a_logarithmic_scale(now: dict[str, float], rate: float) -> None:
    """Against the definition, term by term."""
    total = sum(now.values())
    weights = Magnitudes(rate).weigh(sizes_of(now))
    for name in NAMES:
        wanted = math.log((1 / 3) / (now[name] / total))
        assert math.log(weights[name]) == pytest.approx(rate * wanted, abs=1e-9)


@given(now=SIZES, before=SIZES, temperature=st.floats(0.5, 10.0))
def test_dynamic_weight_average_is_the_softmax_of_the_paper(
    now: dict[str, float], before: dict[str, float], temperature: float
) -> None:
    """K exp(r / T) / sum exp(r / T), where no ratio is beyond what a float can raise e to."""
    ratios = {name: now[name] / before[name] for name in NAMES}
    if max(ratios.values()) / temperature > 500:
        return
    powers = {name: math.exp(ratio / temperature) for name, ratio in ratios.items()}
    weights = DynamicWeightAverage(temperature).weigh(sizes_of(now, before=before))
    for name in NAMES:
        assert weights[name] == pytest.approx(3 * powers[name] / sum(powers.values()), rel=1e-6, abs=1e-12)


@given(now=SIZES)
def test_uncertainty_minimizes_the_loss_over_the_variances(now: dict[str, float]) -> None:
    """L / (2 s) + log(s) / 2 is least at s = L; the weights are 1 / s with the sum of those given."""
    weights = Uncertainty().weigh(sizes_of(now))
    variances = {name: min((size * factor for factor in (0.5, 0.9, 1.0, 1.1, 2.0)),
                           key=lambda s, size=size: size / (2 * s) + math.log(s) / 2)
                 for name, size in now.items()}  # fmt: skip
    total = sum(1 / variance for variance in variances.values())
    for name in NAMES:
        assert weights[name] == pytest.approx(3 / variances[name] / total, rel=1e-6)


@given(now=SIZES, before=SIZES, start=SIZES, momentum=st.floats(0.0, 0.99))
def test_relative_balancing_keeps_a_share_and_looks_back_where_it_is_told(
    now: dict[str, float], before: dict[str, float], start: dict[str, float], momentum: float
) -> None:
    """Its fresh part is that of the average over the same reference."""
    given_weights = {"a": 0.5, "b": 1.5, "c": 1.0}
    method = RelativeBalancing(2.0, momentum)
    for looks_back, reference in ((False, before), (True, start)):
        sizes = sizes_of(now, before=before, start=start, given_weights=given_weights, looks_back=looks_back)
        fresh = DynamicWeightAverage(2.0).weigh(sizes_of(now, before=reference, given_weights=given_weights))
        weights = method.weigh(sizes)
        for name in NAMES:
            expected = momentum * given_weights[name] + (1 - momentum) * fresh[name]
            assert weights[name] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("method", [DynamicWeightAverage(2.0), Uncertainty(), RelativeBalancing(2.0, 0.9)], ids=str)
@given(now=SIZES, before=SIZES)
def test_the_sum_of_the_weights_stays(method: WeightingMethod, now: dict[str, float], before: dict[str, float]) -> None:
    """So that the learning rate keeps its meaning, and no weight is below 0."""
    weights = method.weigh(sizes_of(now, before=before, given_weights={"a": 2.0, "b": 0.5, "c": 0.5}))
    assert math.fsum(weights.values()) == pytest.approx(3.0, rel=1e-9)
    assert min(weights.values()) >= 0


def test_a_term_that_stands_still_gets_more_weight_than_one_that_falls() -> None:
    """What the two averages are for."""
    source = random.Random(0)
    for method in (DynamicWeightAverage(2.0), RelativeBalancing(2.0, 0.5)):
        before = {"a": source.random() + 1, "b": source.random() + 1}
        weights = method.weigh(sizes_of({"a": before["a"] * 0.5, "b": before["b"]}, before=before))
        assert weights["b"] > weights["a"]
