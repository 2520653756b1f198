"""The sampler whose batches become larger within an epoch, against a slow and obvious twin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, SequentialSampler

from lightning_automations.callbacks.growing_batches import GrowingBatches, Stretches, checked_stretches


def growing_batches(samples: int, size: int, stretches: Stretches, *, drop_last: bool, offset: int = 0) -> BatchSampler:
    """One over the numbers from 0 up."""
    sampler = BatchSampler(SequentialSampler(range(samples)), size, drop_last)
    GrowingBatches.grow_from(sampler, stretches, offset=offset)
    return sampler


def obvious(samples: int, size: int, stretches: Stretches, *, drop_last: bool) -> list[list[int]]:
    """The same, one sample after the other."""
    batches: list[list[int]] = []
    rest = list(range(samples))
    while rest:
        current = size
        for end, earlier in reversed(stretches):
            current = earlier if len(batches) < end else current
        if drop_last and len(rest) < current:
            break
        batches.append([rest.pop(0) for _ in range(min(current, len(rest)))])
    return batches


@given(
    samples=st.integers(1, 200),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    lengths=st.lists(st.integers(1, 2), max_size=3),
    drop_last=st.booleans(),
)
def test_batches_are_those_of_the_obvious_way(
    samples: int, sizes: list[int], lengths: list[int], drop_last: bool
) -> None:
    """Each sample once and in its order, and the length is the number of batches, also where samples run out early."""
    ends = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    stretches = list(zip(ends, sorted(sizes)[:-1], strict=False))
    sampler = growing_batches(samples, max(sizes), stretches, drop_last=drop_last)
    expected = obvious(samples, max(sizes), stretches, drop_last=drop_last)
    assert list(sampler) == expected
    assert len(sampler) == len(expected)


def test_a_size_is_asked_for_when_a_batch_is_drawn() -> None:
    """A change counts for the batches from its number on, while the sampler is in use."""
    sampler = growing_batches(20, 2, [], drop_last=True)
    assert isinstance(sampler, GrowingBatches)
    batches = iter(sampler)
    drawn = [next(batches) for _ in range(3)]
    assert sampler.drawn == 3
    sampler.stretches.append((4, 2))
    sampler.batch_size = 5
    drawn += list(batches)
    assert drawn == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9, 10, 11, 12], [13, 14, 15, 16, 17]]
    assert len(sampler) == len(drawn)


def test_an_epoch_that_goes_on_counts_on() -> None:
    """The fourth batch of the epoch is the first of a sampler that starts anew."""
    sampler = growing_batches(12, 4, [(4, 2)], drop_last=False, offset=3)
    assert [len(batch) for batch in sampler] == [2, 4, 4, 2]


def test_it_is_given_back_as_it_was() -> None:
    """Torch's own class, without a trace."""
    sampler = growing_batches(12, 4, [(1, 2)], drop_last=False)
    assert isinstance(sampler, GrowingBatches)
    sampler.give_back()
    assert type(sampler) is BatchSampler
    assert not set(vars(sampler)) & {"stretches", "offset", "drawn"}
    assert [len(batch) for batch in sampler] == [4, 4, 4]


@pytest.mark.parametrize("values", [[[0, 4]], [[3, 0]], [[3, 4], [3, 8]], [[5, 4], [3, 8]]])
def test_stretches_that_cannot_be_are_refused(values: list[list[int]]) -> None:
    """A damaged checkpoint is told as one."""
    with pytest.raises(ValueError, match="parts of an epoch"):
        checked_stretches(values)
    assert checked_stretches([[3, 4], [7, 8]]) == [(3, 4), (7, 8)]
