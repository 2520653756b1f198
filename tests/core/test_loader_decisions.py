"""What BatchSizeBrain decides about the loader's batch where what the optimizer sees is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.batch_size import BatchSizeBrain, BatchSizeSettings
from lightning_automations.core.decision import Adjustment, Reason

SIZES = (4, 8, 16, 32)
PER_STEP = 32


def brain_at(batch: int, *, share: float, observations: int = 3, **settings: Any) -> BatchSizeBrain:
    """One that has seen batches of this size fill this share of the memory, with 5 % in use before."""
    brain = BatchSizeBrain(BatchSizeSettings(**settings))
    brain.start(0.05)
    for _ in range(observations):
        brain.observe(step=0, epoch=0, samples=batch, share=share, batch=batch)
    return brain


def exchange(brain: BatchSizeBrain, batch: int) -> Adjustment | None:
    """Its decision at the start of epoch 1."""
    return brain.exchange(step=7, epoch=1, batch=batch, sizes=SIZES, samples_per_step=PER_STEP)


@pytest.mark.parametrize(
    ("share", "size"),
    [
        (0.10, 32),  # 0.0125 a sample: all of the step at once
        (0.15, 16),  # 32 samples would be above the band, what lies between divides no step
        (0.25, 8),
        (0.50, None),
        (0.90, None),
    ],
)
def test_it_goes_straight_to_the_largest_size_that_fits(share: float, size: int | None) -> None:
    """Of the sizes that divide a step; four samples fill so much."""
    brain = brain_at(4, share=share)
    adjustment = exchange(brain, 4)
    if size is None:
        assert adjustment is None
        return
    assert adjustment is not None
    assert (adjustment.parameter, adjustment.old, adjustment.new) == ("accumulate_grad_batches", 8, PER_STEP // size)
    assert (adjustment.step, adjustment.epoch, adjustment.reason) == (7, 1, Reason.MEMORY_BELOW_TARGET)
    assert adjustment.evidence["batch_size"] == size
    assert (brain.state.loader_batch, brain.state.samples_per_step) == (size, PER_STEP)
    assert exchange(brain, size) is None  # not before it was observed


def test_it_asks_for_three_observations() -> None:
    """A first reading may be of a batch that was not yet at its peak."""
    assert exchange(brain_at(4, share=0.1, observations=2), 4) is None


def test_a_size_that_another_rank_cannot_hold_does_not_grow() -> None:
    """This rank has seen batches of 8 whole; then it learns that 4 are run at once."""
    brain = brain_at(8, share=0.15)
    brain.state.take_up({**brain.state.shared(), "micro_batch": 4.0})
    assert brain.grow(step=0, epoch=0, batch=8, most=1000) is None


def test_a_dry_run_decides_once() -> None:
    """The loader does not follow there: the same decision is not told at every epoch."""
    brain = brain_at(4, share=0.1)
    assert exchange(brain, 4) is not None
    for _ in range(3):
        brain.observe(step=0, epoch=1, samples=4, share=0.1, batch=4)
    assert exchange(brain, 4) is None


def test_after_an_error_nothing_above_what_ran_since_is_chosen() -> None:
    """32 samples failed and 16 were run: the loader makes batches of 16, and no larger ones, whatever the line says."""
    brain = brain_at(32, share=0.3)
    brain.recover(step=0, epoch=0, failed=32, samples=32)
    back = exchange(brain, 32)
    assert back is not None
    assert (back.old, back.new, back.reason) == (1, 2, Reason.OUT_OF_MEMORY)
    for _ in range(30):
        brain.observe(step=0, epoch=1, samples=16, share=0.2, batch=16)
    assert exchange(brain, 16) is None


def test_the_given_size_is_the_smallest_and_pieces_of_it_stay() -> None:
    """Batches are not made smaller than they were given; what runs at once stays what memory allows."""
    brain = brain_at(8, share=0.3)
    brain.state.micro_batch, brain.state.ceiling = 2, 4
    adjustment = exchange(brain, 8)
    assert adjustment is not None
    assert (adjustment.old, adjustment.new, brain.state.micro_batch) == (4, 8, 2)
    assert exchange(brain, 4) is None


def test_memory_that_is_given_back_is_taken_again() -> None:
    """Pieces that the target asked for are no bound once there is room; then batches are run whole."""
    brain = brain_at(16, share=0.45)
    for _ in range(2):
        brain.observe(step=0, epoch=0, samples=16, share=0.95, batch=16)
    assert brain.state.micro_batch == 11
    back = exchange(brain, 16)
    assert back is not None
    assert (back.new, back.reason) == (4, Reason.MEMORY_ABOVE_TARGET)
    for share in (0.75, 0.75, 0.75, 0.25, 0.25):
        brain.observe(step=0, epoch=1, samples=8, share=share, batch=8)
    again = exchange(brain, 8)
    assert again is not None
    assert (again.new, brain.piece_size(16)) == (2, 16)


@pytest.mark.parametrize(("frequency", "steps", "long", "rest"), [(1, 13, True, True), (2, 25, False, True)])
def test_growth_within_an_epoch_is_for_long_ones(frequency: int, steps: int, long: bool, rest: bool) -> None:
    """Three observations and ten decisions have to fit in; of the rest ten."""
    for factor in (1, 100):
        brain = BatchSizeBrain(BatchSizeSettings(adjustment_frequency=factor * frequency))
        assert brain.epoch_is_long(factor * steps) == long
        assert brain.rest_is_long(factor * steps) == rest
        assert not brain.rest_is_long(factor * frequency * 10 - 1)


def test_batches_that_were_drawn_before_are_no_observation() -> None:
    """After a growth from 4 to 8, batches of 4 may still come: three of 8 are waited for."""
    brain = brain_at(4, share=0.1)
    assert brain.grow(step=3, epoch=0, batch=4, most=1000) is not None
    for size in (4, 4, 8, 8):
        brain.observe(step=0, epoch=0, samples=size, share=0.05 + 0.0125 * size, batch=size)
        assert brain.grow(step=0, epoch=0, batch=8, most=1000) is None
    brain.observe(step=0, epoch=0, samples=8, share=0.15, batch=8)
    grown = brain.grow(step=0, epoch=0, batch=8, most=1000)
    assert grown is not None
    assert (grown.old, grown.new) == (8, 16)


@given(
    st.lists(st.tuples(st.sampled_from(["observe", "fail", "epoch"]), st.floats(0.01, 1.2)), max_size=60),
    st.floats(0.001, 0.1),
)
def test_what_failed_is_never_chosen_again(events: list[tuple[str, float]], per_sample: float) -> None:
    """Whatever memory does, a batch is one of the sizes, and smaller than all that ran out of memory."""
    brain, batch = BatchSizeBrain(BatchSizeSettings()), SIZES[0]
    brain.start(0.05)
    for kind, share in events:
        size = brain.piece_size(batch)
        if kind == "observe":
            brain.observe(step=0, epoch=0, samples=size, share=share * per_sample * size, batch=batch)
        elif kind == "fail":
            brain.recover(step=0, epoch=0, failed=size, samples=batch)
        else:
            adjustment = exchange(brain, batch)
            if adjustment is not None:
                batch = PER_STEP // int(str(adjustment.new))
                ceiling = brain.state.ceiling
                assert batch in SIZES
                assert batch == SIZES[0] or ceiling is None or batch < ceiling
