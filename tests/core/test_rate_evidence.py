"""What a few steps say about the rate, against slow and obvious twins."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.rate_evidence import (
    Alignment,
    alignment_of,
    end_level_of,
    error_of_end_level,
    slope_of,
    surely_rises,
    usual_noise_of,
)

VALUES = st.lists(st.floats(-100, 100), min_size=6, max_size=40)


@given(cosines=st.lists(st.floats(-1, 1), min_size=6, max_size=30))
def test_the_alignment_is_a_mean_over_its_standard_error(cosines: list[float]) -> None:
    """As the statistics module has them."""
    found = alignment_of(cosines)
    assert found is not None
    assert found.cosine == pytest.approx(statistics.fmean(cosines), abs=1e-12)
    error = statistics.stdev(cosines) / math.sqrt(len(cosines))
    if error > 1e-9:
        assert found.deviations == pytest.approx(found.cosine / error, rel=1e-6, abs=1e-6)


def test_too_few_cosines_say_nothing() -> None:
    """Readings that are no numbers do not count."""
    assert alignment_of([0.5] * 5 + [math.nan] * 10) is None
    assert alignment_of([0.5] * 6) is not None


def test_cosines_without_spread_are_as_sure_as_can_be() -> None:
    """Their sign is that of the cosine."""
    found = alignment_of([-0.25] * 8)
    assert found is not None
    assert found.deviations == -math.inf
    assert not found.is_surely_positive(cosine=0.0, deviations=3.0)


@given(losses=VALUES)
def test_the_slope_is_that_of_least_squares_over_its_standard_error(losses: list[float]) -> None:
    """As the statistics module has the line, and the residuals of it the error."""
    places = list(range(len(losses)))
    line = statistics.linear_regression(places, losses)
    rest = sum((y - line.slope * x - line.intercept) ** 2 for x, y in zip(places, losses, strict=True))
    spread = sum((x - statistics.fmean(places)) ** 2 for x in places)
    error = math.sqrt(rest / (len(losses) - 2) / spread)
    if error > 1e-6:
        assert slope_of(losses) == pytest.approx(line.slope / error, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("losses", "slope"), [([1.0, 2.0], 0.0), ([4.0, 4.0, 4.0], 0.0), ([1.0, 2.0, 3.0], math.inf)])
def test_a_line_without_noise_is_sure_and_a_flat_one_is_none(losses: list[float], slope: float) -> None:
    """Two losses are no line."""
    assert slope_of(losses) == slope


@given(losses=VALUES, spike=st.floats(1e3, 1e6))
def test_one_spike_hardly_moves_the_end_level(losses: list[float], spike: float) -> None:
    """The median of seven stays within what the others were."""
    assert min(losses) <= end_level_of([*losses, spike]) <= max(losses)


def test_the_usual_noise_is_that_of_a_series_without_its_trend_and_spikes() -> None:
    """A straight line has none, and a spike adds none."""
    assert usual_noise_of([float(place) for place in range(20)]) == 0.0
    source = random.Random(0)
    assert usual_noise_of([source.gauss(0, 1) + place for place in range(2000)]) == pytest.approx(1.0, rel=0.1)
    assert usual_noise_of([1.0, 2.0, 3.0, 1000.0, 5.0, 6.0, 7.0, 8.0, 9.0]) == 0.0


def slow_noise(losses: list[float]) -> float:
    """The middle distance of the steps from their middle one, as if they were normal, over the root of two."""
    steps = sorted(losses[place + 1] - losses[place] for place in range(len(losses) - 1))
    middle = statistics.median(steps)
    return 1.4826 * statistics.median(abs(step - middle) for step in steps) / math.sqrt(2)


@given(losses=VALUES)
def test_noise_and_end_level_are_those_of_their_slow_twins(losses: list[float]) -> None:
    """The median of the last seven, and 1.25 times the error of a mean of as many."""
    assert usual_noise_of(losses) == pytest.approx(slow_noise(losses))
    assert end_level_of(losses) == statistics.median(losses[-7:])
    assert error_of_end_level(usual_noise_of(losses)) == pytest.approx(1.25 * slow_noise(losses) / math.sqrt(7))


@pytest.mark.parametrize("losses", [[2.0], [2.0, 2.0]])
def test_one_or_two_losses_have_a_level_and_no_noise(losses: list[float]) -> None:
    """There is nothing to take it from."""
    assert (end_level_of(losses), usual_noise_of(losses)) == (2.0, 0.0)


@pytest.mark.parametrize(
    ("cosine", "deviations", "is_sure"),
    [(0.03, 4.0, True), (0.02, 4.0, False), (0.03, 3.5, False), (-0.5, -9.0, False)],
)
def test_surely_positive_is_beyond_both_bounds(cosine: float, deviations: float, is_sure: bool) -> None:
    """Large enough, and far enough from zero."""
    found = Alignment(cosine=cosine, deviations=deviations)
    assert found.is_surely_positive(cosine=0.02, deviations=3.5) is is_sure


def test_the_errors_of_level_slope_and_cosine_are_honest() -> None:
    """Of 2,000 series of pure noise, at most one in fifty is three errors off."""
    source = random.Random(0)
    far_levels = far_cosines = far_slopes = 0
    for _ in range(2000):
        noise = [source.gauss(0, 1) for _ in range(20)]
        far_levels += abs(end_level_of(noise)) > 3 * error_of_end_level(usual_noise_of(noise))
        alignment = alignment_of(noise)
        assert alignment is not None
        far_cosines += abs(alignment.deviations) > 3
        far_slopes += abs(slope_of(noise)) > 3
    assert max(far_levels, far_cosines, far_slopes) <= 40, (far_levels, far_cosines, far_slopes)


@pytest.mark.parametrize(
    ("values", "rises"),
    [([], False), ([1.0, 2.0], False), ([1.0, 2.0, 3.0], True), ([3.0, 2.0, 1.0], False), ([2.0] * 5, False)],
)
def test_a_rise_without_noise_is_sure_from_three_values_on(values: list[float], rises: bool) -> None:
    """Fewer have no line that could be told from noise."""
    assert surely_rises(values) is rises


@pytest.mark.parametrize("count", [3, 4, 6, 10])
def test_noise_alone_seldom_rises(count: int) -> None:
    """Of 2,000 series without a trend at most one in twenty, however few values there are; a clear rise is seen."""
    noise = random.Random(count)
    series = [[noise.gauss(0, 1) for _ in range(count)] for _ in range(2000)]
    assert sum(map(surely_rises, series)) <= 100
    rising = [[3 * place + value for place, value in enumerate(values)] for values in series]
    assert sum(map(surely_rises, rising)) >= (1000 if count > 3 else 300)
