"""The decisions of BatchSizeBrain, from sequences of numbers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.batch_size import BatchSizeBrain, BatchSizeSettings
from lightning_automations.core.batch_size_state import BatchSizeState
from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.errors import ConfigError

TARGET, MARGIN = 0.85, 0.05


class Run:
    """A run in a memory that a test makes up: decisions, then growth, at every observation."""

    def __init__(self, share: Callable[[int], float], batch: int, *, grows: bool = True, **settings: Any) -> None:
        self.brain = BatchSizeBrain(BatchSizeSettings(**{"max_batch_size": 1 << 20, **settings}))
        self.share = share
        self.batch = batch
        self.grows = grows
        self.step = 0
        self.changes: list[Adjustment] = []
        self.sizes: list[int] = []

    @property
    def size(self) -> int:
        """Samples at once now."""
        return self.brain.piece_size(self.batch)

    def observe(self, times: int = 1) -> None:
        """So many decisions."""
        for _ in range(times):
            self.step += 100
            self.sizes.append(self.size)
            self._keep(
                self.brain.observe(
                    step=self.step, epoch=0, samples=self.size, share=self.share(self.size), batch=self.batch
                )
            )
            if self.grows:
                grown = self.brain.grow(step=self.step, epoch=0, batch=self.batch, most=1 << 20)
                self.batch = int(str(grown.new)) if grown is not None else self.batch
                self._keep(grown)

    def _keep(self, adjustment: Adjustment | None) -> None:
        if adjustment is not None:
            self.changes.append(adjustment)


MEMORIES = [(0.2, 0.005, 8), (0.2, 0.005, 300), (0.5, 0.002, 8), (0.15, 0.01, 4), (0.7, 0.01, 64), (0.3, 0.0005, 64)]


@pytest.mark.parametrize("noise", [0.0, 0.003])
@pytest.mark.parametrize(("fixed", "per_sample", "batch"), MEMORIES)
def test_the_band_is_reached_in_few_adjustments_and_kept(
    fixed: float, per_sample: float, batch: int, noise: float
) -> None:
    """Pieces go straight to the predicted size, in three adjustments at most; a loader's batch doubles; then rest."""
    draw = random.Random(0)
    run = Run(lambda size: fixed + per_sample * size + draw.gauss(0, noise), batch)
    run.brain.start(fixed - 0.1)
    run.observe(20)
    reached = run.size
    run.observe(1500)
    doublings = math.ceil(math.log2(reached / batch)) if reached > batch else 0
    assert 1 <= len(run.changes) <= max(3, doublings + 1)
    assert run.size == reached
    # A batch is cut into even pieces: their size may miss the band from below, by the rounding to whole pieces.
    pieces = math.ceil(run.batch / reached)
    next_larger = math.ceil(run.batch / (pieces - 1)) if pieces > 1 else reached + 1
    assert fixed + per_sample * reached <= TARGET
    assert fixed + per_sample * next_larger > TARGET - MARGIN


def test_loud_noise_makes_no_oscillation() -> None:
    """Readings that vary by a fifth of the band: over 10,000 of them, a few changes and no more."""
    draw = random.Random(1)
    run = Run(lambda size: 0.2 + 0.005 * size + draw.gauss(0, 0.01), 8)
    run.brain.start(0.1)
    run.observe(10_000)
    assert len(run.changes) <= 6


def test_a_neighbour_that_comes_and_goes_is_followed() -> None:
    """30 % taken by another process: pieces; given back: the whole batch again."""
    taken = {"share": 0.0}
    run = Run(lambda size: 0.2 + 0.01 * size + taken["share"], 60, grows=False)
    run.brain.start(0.1)
    run.observe(20)
    assert run.changes == []
    taken["share"] = 0.3
    run.observe(20)
    assert run.share(run.size) <= TARGET
    assert run.size < 60
    taken["share"] = 0.0
    run.observe(20)
    assert run.size == 60
    assert len(run.changes) <= 4


def test_more_memory_per_sample_is_followed() -> None:
    """Longer sequences from some step on: another line, and a size that fits again."""
    slope = {"value": 0.004}
    run = Run(lambda size: 0.18 + slope["value"] * size, 160, grows=False)
    run.brain.start(0.1)
    run.observe(20)
    slope["value"] = 0.008
    run.observe(60)
    assert run.size == 80  # two pieces; the batch of 160 as a whole would need 1.48 of the memory
    assert run.share(run.size) <= TARGET
    assert len(run.changes) <= 3


@pytest.mark.parametrize("factor", [1.6, 1.8])
def test_a_size_that_was_too_large_is_not_tried_again_once_it_is_forgotten(factor: float) -> None:
    """Of more memory per sample the readings at 64 leave the history after 50 decisions: what they told is kept."""
    slope = {"value": 0.00875}
    run = Run(lambda size: 0.0854 + slope["value"] * size, 64, grows=False)
    run.brain.start(0.0854)
    run.observe(20)
    slope["value"] *= factor
    run.observe(10_000)
    assert len(run.changes) == 1
    assert run.share(run.size) <= TARGET


def test_a_size_that_was_above_the_target_is_no_size_to_climb_to() -> None:
    """Memory that jumps between 8 and 9 samples, as no line can know: while that reading is kept, it is tried once."""
    run = Run(lambda size: 0.5 if size <= 8 else 0.9, 64, grows=False)
    for failed in (64, 32, 16):
        run.brain.recover(step=0, epoch=0, failed=failed, samples=64)
    run.observe(run.brain.settings.vram_history_size)
    assert [change.reason for change in run.changes].count(Reason.NO_ERROR_SINCE) == 1
    assert run.share(run.size) <= TARGET


@pytest.mark.parametrize(("slope", "factor", "neighbour"), [(0.043, 1.6, 0.0), (0.0444, 1.0, 0.3)])
def test_what_was_seen_of_a_size_before_it_failed_says_nothing_afterwards(
    slope: float, factor: float, neighbour: float
) -> None:
    """16 ran, then does not: the readings of 16 from before would make every smaller size look cheap."""
    memory = {"fixed": 0.119, "slope": slope}
    run = Run(lambda size: memory["fixed"] + memory["slope"] * size, 64, grows=False)
    run.brain.start(0.119)
    for failed in (64, 32):
        run.brain.recover(step=0, epoch=0, failed=failed, samples=64)
    run.observe(20)
    before = run.share(16)
    memory = {"fixed": memory["fixed"] + neighbour, "slope": slope * factor}
    run.brain.recover(step=run.step, epoch=0, failed=16, samples=64)
    run.brain.observe(step=run.step, epoch=0, samples=16, share=before, batch=64)  # of the period in which it failed
    run.changes.clear()
    run.sizes.clear()
    run.observe(1000)
    assert max(run.share(size) for size in run.sizes) <= TARGET
    assert len(run.changes) <= 1


@pytest.mark.parametrize("seed", range(40))
def test_noise_a_neighbour_and_longer_samples_together(seed: int) -> None:
    """Memories drawn at random, 10,000 steps of each phase: under the target in three changes, then rest.

    Sizes whose peak is above all memory fail, and are never run again.
    """
    draw = random.Random(seed)
    fixed, slope = draw.uniform(0.05, 0.2), draw.uniform(0.004, 0.05)
    noise = draw.choice([0.0, 0.002, 0.005, 0.01])
    neighbour, factor = 0.0, 1.0
    run = Run(lambda size: fixed + neighbour + factor * slope * size + draw.gauss(0, noise), 64, grows=False)
    run.brain.start(fixed)
    failed: list[int] = []
    for neighbour, factor in ((0.0, 1.0), (0.3, 1.0), (0.0, 1.0), (0.0, 1.6), (0.3, 1.6)):
        run.changes.clear()
        for _ in range(100):  # decisions of 100 steps
            while run.share(run.size) > 1.0:
                failed.append(run.size)
                assert run.brain.recover(step=run.step, epoch=0, failed=run.size, samples=64) is not None
            before = list(failed)
            run.observe()
            assert all(run.size < size for size in before)
        assert len(run.changes) <= 3
        assert fixed + neighbour + factor * slope * run.size <= TARGET + 3 * noise


def test_memory_that_is_full_of_other_things_is_no_reason_for_pieces() -> None:
    """Where even the smallest piece is above the target, nothing would be gained."""
    run = Run(lambda size: 0.9 + 0.0001 * size, 32)
    run.brain.start(0.89)
    run.observe(100)
    assert run.changes == []


def test_sizes_that_need_no_memory_double_up_to_the_largest() -> None:
    """A flat line says that every size fits; the next doubling waits until the last has been seen three times."""
    run = Run(lambda size: 0.3, 8, max_batch_size=50)
    run.brain.start(0.3)
    run.observe(20)
    assert [(item.parameter, item.old, item.new, item.step) for item in run.changes] == [
        ("batch_size", 8, 16, 300),
        ("batch_size", 16, 32, 600),
        ("batch_size", 32, 50, 900),
    ]


def test_growth_needs_an_observation_of_the_whole_batch() -> None:
    """No growth before three readings, none on readings of another size, and none before it was seen at work."""
    brain = BatchSizeBrain(BatchSizeSettings())
    assert brain.grow(step=0, epoch=0, batch=8, most=1000) is None
    brain.observe(step=1, epoch=0, samples=4, share=0.1, batch=8)
    assert brain.grow(step=1, epoch=0, batch=8, most=1000) is None
    for step in range(2, 5):
        assert brain.grow(step=step, epoch=0, batch=8, most=1000) is None
        brain.observe(step=step, epoch=0, samples=8, share=0.1, batch=8)
    assert brain.grow(step=2, epoch=0, batch=8, most=1000) is not None
    assert brain.grow(step=2, epoch=0, batch=8, most=1000) is None


def test_a_resumed_run_keeps_the_memory_of_before_training() -> None:
    """What was in use before the first part of the run stays the point of comparison."""
    brain = BatchSizeBrain(BatchSizeSettings())
    brain.start(0.1)
    brain.start(0.6)
    assert brain.state.baseline == 0.1


def test_an_unknown_share_decides_nothing() -> None:
    """Without readings there is no line."""
    run = Run(lambda size: math.nan, 32)
    run.brain.start(math.nan)
    run.observe(50)
    assert run.changes == []


def test_an_error_halves_down_to_the_smallest_size() -> None:
    """20, 10, ... , min_batch_size; below that there is nothing to try. 3 + 3 + ... + 2 comes after 4 + 4 + ... + 4."""
    brain = BatchSizeBrain(BatchSizeSettings(min_batch_size=3))
    sizes, size = [], 20
    while (change := brain.recover(step=5, epoch=1, failed=size, samples=20)) is not None:
        size = int(str(change.new))
        sizes.append(size)
    assert sizes == [10, 5, 4, 3]
    assert brain.state.ceiling == 4
    assert brain.piece_size(20) == 3


def test_after_an_error_larger_sizes_are_tried_seldom() -> None:
    """Half the way to the size that failed after ten calm decisions, three times at most."""
    run = Run(lambda size: math.nan, 100_000, grows=False)
    run.brain.recover(step=0, epoch=0, failed=1000, samples=100_000)
    run.brain.recover(step=0, epoch=0, failed=500, samples=100_000)
    run.observe(100)
    assert [(item.step, item.old, item.new) for item in run.changes] == [
        (1000, 250, 375),
        (2000, 375, 437),
        (3000, 437, 468),
    ]


def test_no_larger_size_is_tried_that_makes_as_many_pieces() -> None:
    """1000 samples are three pieces of 334 at 375 and at 437: the second would be a change of nothing."""
    run = Run(lambda size: math.nan, 1000, grows=False)
    run.brain.recover(step=0, epoch=0, failed=1000, samples=1000)
    run.brain.recover(step=0, epoch=0, failed=500, samples=1000)
    run.observe(100)
    assert [(item.step, item.old, item.new) for item in run.changes] == [(1000, 250, 375)]
    assert {item.reason.value for item in run.changes} == {"no_error_since"}


def test_no_larger_size_is_tried_where_memory_says_no() -> None:
    """A climb whose prediction is above the target does not happen."""
    run = Run(lambda size: 0.1 + 0.0029 * size, 1000, grows=False)
    run.brain.start(0.1)
    run.brain.recover(step=0, epoch=0, failed=500, samples=1000)
    run.observe(100)
    assert run.changes == []


def test_the_fallback_holds_only_where_memory_demanded_pieces() -> None:
    """Retired: the smaller of the fallback and the largest size that fit; whole batches stay whole."""
    whole = BatchSizeBrain(BatchSizeSettings())
    whole.retire()
    assert whole.piece_size(512) == 512

    cut = BatchSizeBrain(BatchSizeSettings(fallback={"batch_size": 16}))
    cut.recover(step=0, epoch=0, failed=16, samples=16)
    cut.went_well(8)
    cut.retire()
    assert cut.piece_size(64) == 8

    larger = BatchSizeBrain(BatchSizeSettings(fallback={"batch_size": 16}))
    larger.recover(step=0, epoch=0, failed=128, samples=128)
    larger.went_well(64)
    larger.retire()
    assert larger.piece_size(64) == 16

    silent = BatchSizeBrain(BatchSizeSettings(fallback={}))
    silent.recover(step=0, epoch=0, failed=16, samples=16)
    silent.retire()
    assert silent.piece_size(64) == 8


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), st.floats(0.0, 1.2)),
        st.tuples(st.just("fails"), st.floats(0.0, 1.0)),
        st.tuples(st.just("grow"), st.floats(0.0, 1.0)),
    ),
    max_size=60,
)


def play(brain: BatchSizeBrain, batch: int, events: list[tuple[str, float]], failed: list[int]) -> list[Any]:
    """Feed a brain and check after each event that no size is chosen that failed before."""
    seen: list[Any] = []
    for step, (kind, number) in enumerate(events):
        size = brain.piece_size(batch)
        if kind == "observe":
            seen.append(brain.observe(step=step, epoch=0, samples=size, share=number, batch=batch))
            brain.went_well(size)
        elif kind == "grow":
            grown = brain.grow(step=step, epoch=0, batch=batch, most=4096)
            batch = int(str(grown.new)) if grown is not None else batch
            seen.append(grown)
        elif size > brain.settings.min_batch_size:
            failed.append(size)
            seen.append(brain.recover(step=step, epoch=0, failed=size, samples=batch))
        assert all(brain.piece_size(batch) < size for size in failed)
        assert 1 <= brain.piece_size(batch) <= batch
    return seen


@given(EVENTS, st.integers(1, 300))
def test_a_size_that_failed_is_never_chosen_again(events: list[tuple[str, float]], batch: int) -> None:
    """Whatever is read and whatever fails: sizes stay below every failure, and within the batch."""
    play(BatchSizeBrain(BatchSizeSettings(max_batch_size=2048)), batch, events, [])


def test_a_single_sample_above_the_target_leaves_no_size_to_grow_to() -> None:
    """One reading of a single sample above the target, among many far below it."""
    brain = BatchSizeBrain(BatchSizeSettings())
    brain.recover(step=0, epoch=0, failed=2, samples=2)
    for share in (*[0.1] * 9, 1.0, *[0.1] * 20):
        brain.observe(step=0, epoch=0, samples=1, share=share, batch=2)
    assert brain.piece_size(2) == 1


@given(EVENTS, st.integers(1, 300))
def test_the_loaders_batch_at_most_doubles_at_once(events: list[tuple[str, float]], batch: int) -> None:
    """Whatever memory says: one change is seen at work before the next."""
    seen = play(BatchSizeBrain(BatchSizeSettings(max_batch_size=2048)), batch, events, [])
    grown = [item for item in seen if item is not None and item.parameter == "batch_size"]
    assert all(item.new <= 2 * item.old for item in grown)


@given(EVENTS, EVENTS, st.integers(1, 300))
def test_a_round_trip_of_the_state_gives_the_same_future(
    before: list[tuple[str, float]], after: list[tuple[str, float]], batch: int
) -> None:
    """Through JSON at any point, the brain decides as if nothing had happened."""
    first, second = (BatchSizeBrain(BatchSizeSettings(max_batch_size=2048)) for _ in range(2))
    play(first, batch, before, [])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    batch = first.state.loader_batch or batch
    assert play(first, batch, after, []) == play(second, batch, after, [])


def test_the_history_is_bounded() -> None:
    """vram_history_size observations are kept, not more."""
    run = Run(lambda size: 0.82, 32, vram_history_size=7)
    run.observe(50)
    assert len(run.brain.state.samples) == len(run.brain.state.shares) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_vram_usage": 0}, "target_vram_usage: expected a number above 0 and at most 1"),
        ({"target_vram_usage": 1.1}, "target_vram_usage: expected a number above 0 and at most 1"),
        ({"safety_margin": -0.1}, "safety_margin: expected a number at least 0"),
        ({"safety_margin": 0.9}, "safety_margin: expected below target_vram_usage (0.85)"),
        ({"adjustment_frequency": 0}, "adjustment_frequency: expected a whole number at least 1"),
        ({"min_batch_size": 64}, "min_batch_size: expected at most max_batch_size (32)"),
        ({"vram_history_size": 1}, "vram_history_size: expected a whole number at least 2"),
        ({"effective_batch": "shrink"}, "effective_batch: expected one of 'grow', 'keep'"),
        ({"lr_scaling": "cubic"}, "lr_scaling: expected one of 'auto', 'none', 'sqrt', 'linear'"),
        ({"fallback": {"batch_size": 0}}, "fallback.batch_size: expected a whole number at least 1"),
    ],
)
def test_wrong_settings_are_told(settings: dict[str, Any], message: str) -> None:
    """Each bound has a message with the setting's name and what was expected."""
    with pytest.raises(ConfigError) as caught:
        BatchSizeSettings(**settings)
    assert f"DynamicBatchSizeOptimizer.{message}" in str(caught.value)


def test_the_defaults_are_those_of_the_seed() -> None:
    """The values of the YAML that the project started from."""
    settings = BatchSizeSettings()
    assert (settings.target_vram_usage, settings.safety_margin, settings.adjustment_frequency) == (0.85, 0.05, 100)
    assert (settings.min_batch_size, settings.max_batch_size, settings.vram_history_size) == (1, 32, 50)
    assert (settings.max_adjustments, settings.fallback) == (20, {"batch_size": 16})


# Several ranks --------------------------------------------------------------------------------------------------------


def test_a_rank_takes_up_what_did_not_fit_on_another() -> None:
    """The smaller size of another rank becomes its own, with a reason; what it has seen itself stays."""
    brain, other = BatchSizeBrain(BatchSizeSettings()), BatchSizeBrain(BatchSizeSettings())
    for one in (brain, other):
        one.start(0.1)
        for step in range(3):
            one.went_well(16)
            one.observe(step=step, epoch=0, samples=16, share=0.83, batch=16)
    other.recover(step=3, epoch=0, failed=16, samples=16)
    shared = {name: min(value, other.state.shared()[name]) for name, value in brain.state.shared().items()}
    shared |= {"micro_batch": 8.0, "ceiling": 16.0}  # NaN on one rank is left out by the other's number
    adjustment = brain.agree(step=4, epoch=1, batch=16, shared=shared)
    assert adjustment is not None
    assert (adjustment.parameter, adjustment.old, adjustment.new) == ("micro_batch_size", 16, 8)
    assert adjustment.reason is Reason.OUT_OF_MEMORY_ELSEWHERE
    assert (adjustment.step, adjustment.epoch) == (4, 1)
    assert other.agree(step=4, epoch=1, batch=16, shared=shared) is None
    assert brain.state == other.state
    assert brain.state.largest_fit == 15
    assert brain.piece_size(16) == 8


@pytest.mark.parametrize(("batch", "micro_batch"), [(8, 8.0), (4, 8.0), (None, 8.0), (16, math.nan)])
def test_what_changes_no_batch_of_this_rank_is_no_adjustment(batch: int | None, micro_batch: float) -> None:
    """Its batches are no larger than that, none was run yet, or no rank runs pieces."""
    brain = BatchSizeBrain(BatchSizeSettings())
    shared = {**brain.state.shared(), "micro_batch": micro_batch}
    assert brain.agree(step=0, epoch=0, batch=batch, shared=shared) is None
    assert brain.state.micro_batch == (None if math.isnan(micro_batch) else micro_batch)


@given(
    micro_batch=st.none() | st.integers(1, 64),
    ceiling=st.none() | st.integers(2, 64),
    baseline=st.none() | st.floats(0, 1),
)
def test_a_rank_alone_agrees_with_itself(micro_batch: int | None, ceiling: int | None, baseline: float | None) -> None:
    """What is shared and taken up again is the same."""
    state = BatchSizeState(micro_batch=micro_batch, ceiling=ceiling, baseline=baseline, seen=3, calm=5, largest_fit=7)
    before = replace(state)
    state.take_up(state.shared())
    assert state == before


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, 1e308, -1.0, 0.0])
def test_a_number_that_no_rank_can_have_sent_changes_no_size(nonsense: float) -> None:
    """A size stays one that a batch can have; NaN stands for none."""
    state = BatchSizeState(micro_batch=4, ceiling=8, largest_fit=4, seen=2, calm=3, baseline=0.2)
    state.take_up(dict.fromkeys(state.shared(), nonsense))
    assert state.micro_batch in (4, None)
    assert state.ceiling in (8, None)
    assert state.largest_fit in (4, 0)
    assert state.baseline in (0.2, 0.0, None)
