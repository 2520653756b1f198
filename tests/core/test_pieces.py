from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.batch_size import BatchSizeBrain, BatchSizeSettings
from lightning_automations.core.pieces import largest_piece, smaller_piece


def even_pieces(samples: int, size: int) -> list[int]:
    """Pieces of at most so many samples, dealt out one by one: slow and obvious."""
    pieces = [0] * -(-samples // size)
    for sample in range(samples):
        pieces[sample % len(pieces)] += 1
    return pieces


def tried(samples: int, fits: int, *, least: int = 1) -> list[int]:
    """The largest pieces of a batch that are tried until they fit; the last is one that does, or nothing is left."""
    sizes = [samples]
    while sizes[-1] > fits and (size := smaller_piece(samples, sizes[-1], least=least)) is not None:
        sizes.append(largest_piece(samples, size))
    return sizes


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_largest_piece_is_that_of_samples_dealt_out(samples: int, size: int) -> None:
    """And cutting by it gives no more pieces, and none that is smaller."""
    pieces = even_pieces(samples, size)
    largest = largest_piece(samples, size)
    assert largest == max(pieces)
    again = even_pieces(samples, largest)
    assert len(again) <= len(pieces)
    assert min(again) >= min(pieces)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
def test_no_piece_has_fewer_than_the_least_where_the_batch_has_as_many(samples: int, size: int, least: int) -> None:
    """The largest grows as little as that needs."""
    largest = largest_piece(samples, size, least=least)
    pieces = even_pieces(samples, largest)
    assert min(pieces) >= min(least, samples)
    more = [count for count in range(1, samples + 1) if size <= -(-samples // count) < largest]
    assert all(samples // count < least for count in more)


@pytest.mark.parametrize(
    ("samples", "fits", "least", "sizes"),
    [
        (64, 8, 1, [64, 32, 16, 8]),
        (7, 3, 1, [7, 4, 3]),  # 2 + 2 + 3: no sample is left alone
        (7, 2, 1, [7, 4, 3, 2]),  # 1 + 2 + 2 + 2: nothing else is left
        (7, 1, 1, [7, 4, 3, 2, 1]),
        (7, 3, 2, [7, 4, 3]),
        (7, 1, 2, [7, 4, 3, 2]),
        (30, 5, 4, [30, 15, 8, 5]),
        (30, 4, 4, [30, 15, 8, 5, 4]),
        (3, 2, 1, [3, 2]),
        (3, 2, 2, [3, 2]),
        (2, 1, 2, [2]),
        (1, 0, 1, [1]),
        (3, 1, 8, [3]),
    ],
)
def test_sizes_are_halved_and_a_small_remainder_comes_last(
    samples: int, fits: int, least: int, sizes: list[int]
) -> None:
    """Pieces that all have ``least`` samples, and more than one, come first."""
    assert tried(samples, fits, least=least) == sizes


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
def test_what_can_be_made_to_fit_is(samples: int, fits: int, least: int) -> None:
    """Down to the least: the last size tried fits, or is not above the least."""
    sizes = tried(samples, fits, least=least)
    assert all(later < size for size, later in pairwise(sizes))
    assert sizes[-1] <= max(fits, least)
    small = [size for size in sizes[:-1] if min(even_pieces(samples, size)) < min(least, samples)]
    assert not small or min(small) > fits


def test_a_batch_of_another_length_leaves_no_sample_alone_where_memory_may_hold_it() -> None:
    """8 was brought down to 2 + 2 + 2 + 2 below a failure at 4; 7 becomes 2 + 2 + 3, until 3 has failed, too."""
    brain = BatchSizeBrain(BatchSizeSettings())
    for failed in (8, 4):
        brain.recover(step=0, epoch=0, failed=failed, samples=8)
    assert brain.piece_size(8) == 2
    assert brain.piece_size(7) == 3
    brain.recover(step=3, epoch=0, failed=3, samples=7)
    assert brain.piece_size(8) == brain.piece_size(7) == 2


def test_memory_above_the_target_is_no_reason_where_no_piece_may_be_smaller() -> None:
    """5 samples in pieces of 2 and 3 stay so: 2 + 2 + 1 would be a change on the paper, made again and again."""
    brain = BatchSizeBrain(BatchSizeSettings())
    brain.start(0.05)
    changes = [
        brain.observe(step=step, epoch=0, samples=brain.piece_size(5), batch=5, share=0.05 + 0.29 * brain.piece_size(5))
        for step in range(10)
    ]
    assert [(change.old, change.new) for change in changes if change is not None] == [(5, 2)]
    assert brain.piece_size(5) == 3
