"""The small statistics against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from lightning_automations.core.statistics import finite, mean, median_absolute_deviation, pushed


def test_a_window_keeps_the_last_values() -> None:
    """The oldest goes when the window is full."""
    assert pushed((), 1.0, size=2) == (1.0,)
    assert pushed((1.0, 2.0), 3.0, size=2) == (2.0, 3.0)


def test_only_finite_values_count() -> None:
    """NaN and both infinities are left out."""
    assert finite([1.0, math.nan, math.inf, -math.inf, 2.0]) == [1.0, 2.0]


def test_the_mean_of_nothing_is_not_a_number() -> None:
    """A missing mean must not pass for a small one."""
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert math.isnan(mean([]))


def test_the_spread_of_the_middle_ignores_an_outlier() -> None:
    """Deviations from the median 3 are 2, 1, 0, 1 and 997; their median is 1."""
    assert median_absolute_deviation([1.0, 2.0, 3.0, 4.0, 1000.0]) == pytest.approx(1.4826)
    assert median_absolute_deviation([]) == 0.0
