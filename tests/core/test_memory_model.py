"""Peak memory as a straight line over the number of samples."""

from __future__ import annotations

import math

import pytest

from lightning_automations.core.memory_model import MemoryLine, level_shift, line_through, slope_of, smallest_above


def test_the_slope_is_that_of_the_observations() -> None:
    """Two sizes make a line; of several, the median of all slopes, so that one bad reading changes nothing."""
    assert slope_of([8, 16], [0.2, 0.36], baseline=0.9) == pytest.approx(0.02)
    assert slope_of([10, 20, 30, 40, 50], [0.2, 0.3, 0.9, 0.5, 0.6], baseline=None) == pytest.approx(0.01)


def test_one_size_is_compared_with_the_memory_before_training() -> None:
    """Until a second size was seen, all of training's memory is taken for samples."""
    assert slope_of([10, 10], [0.5, 0.5], baseline=0.1) == pytest.approx(0.04)
    assert slope_of([10, 10], [0.5, 0.5], baseline=None) == 0.0


def test_a_falling_line_is_flat() -> None:
    """More samples never need less memory."""
    assert slope_of([8, 16], [0.5, 0.3], baseline=None) == 0.0


def test_a_line_predicts_both_ways() -> None:
    """The share of a size, and the size of a share, rounded down to whole samples."""
    line = MemoryLine(samples=10, share=0.5, slope=0.01)
    assert line.share_at(20) == pytest.approx(0.6)
    assert line.largest_under(0.7) == 30
    assert line.largest_under(0.695) == 29
    flat = MemoryLine(samples=10, share=0.5, slope=0.0)
    assert flat.largest_under(0.7) == math.inf
    assert flat.largest_under(0.4) == -math.inf


def test_a_line_goes_through_the_last_observations_of_its_size() -> None:
    """The median of the latest, those of other sizes left out; no line where nothing was seen."""
    line = line_through([8, 8, 16, 8], [0.9, 0.3, 0.7, 0.2], size=8, latest=3, baseline=None)
    assert line is not None
    assert line.share == pytest.approx(0.25)
    assert line_through([8, 8], [0.1, 0.1], size=16, latest=2, baseline=0.0) is None


def test_the_smallest_size_above_a_share() -> None:
    """Infinite where none was."""
    assert smallest_above([8, 16, 32], [0.5, 0.9, 0.95], share=0.85) == 16
    assert smallest_above([8], [0.5], share=0.85) == math.inf


@pytest.mark.parametrize(
    ("samples", "shares", "shift"),
    [
        ([8, 8, 8, 8], [0.3, 0.3, 0.6, 0.6], 0.3),
        ([8, 8, 8, 8], [0.6, 0.6, 0.3, 0.3], -0.3),
        ([8, 8, 8, 8], [0.3, 0.3, 0.3, 0.6], 0.0),  # one alone may be noise
        ([8, 8, 8, 8], [0.5, 0.5, 0.3, 0.7], 0.0),  # to both sides
        ([16, 8, 8], [0.3, 0.6, 0.6], 0.0),  # nothing earlier of this size
        ([8, 8, 16], [0.3, 0.3, 0.6], 0.0),
        ([8], [0.3], 0.0),
    ],
)
def test_a_shift_is_two_observations_that_leave_the_earlier_ones(
    samples: list[int], shares: list[float], shift: float
) -> None:
    """Of one size, to the same side, by more than the tolerance."""
    assert level_shift(samples, shares, tolerance=0.05) == pytest.approx(shift)
