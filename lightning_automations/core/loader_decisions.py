"""What becomes of the loader's own batch: the decisions, without torch or Lightning."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.memory_judgement import LEAST_GROWTH, MemoryJudgement
from lightning_automations.core.memory_model import MemoryLine

__all__ = ["LoaderDecisions"]

GROWTH_OBSERVATIONS = 3
"""Observations of a loader's batch before it grows: a size far beyond those seen asks for a sure start."""
LONG_REST = 10
"""Decisions that the rest of an epoch must have for growth within it; a shorter rest can wait."""
MOST_GROWTH = 2
"""Times by which the loader's batch grows at once: what one change does to the run is seen before the next."""


class LoaderDecisions(MemoryJudgement):
    """Decides how many samples the loader puts into a batch."""

    def epoch_is_long(self, steps: int) -> bool:
        """Whether the loader's batch could grow in the middle of an epoch of so many optimizer steps."""
        return steps >= (GROWTH_OBSERVATIONS + LONG_REST) * self.settings.adjustment_frequency

    def rest_is_long(self, steps: int) -> bool:
        """Whether so many optimizer steps of an epoch are enough for growth in its middle."""
        return steps >= LONG_REST * self.settings.adjustment_frequency

    def grow(self, *, step: int, epoch: int, batch: int, most: int) -> Adjustment | None:
        """One decision about the loader's batch where it may grow: at most to its double.

        Args:
            step: Optimizer steps done.
            epoch: The epoch that starts or runs.
            batch: The loader's batch.
            most: Samples in an epoch.
        """
        line = self._room(batch)
        if line is None:
            return None
        largest = min(MOST_GROWTH * batch, self.settings.max_batch_size, most)
        size = min(self._sizes_within_band(line), largest, self._lowest_excess() - 1)
        if size < LEAST_GROWTH * batch:
            return None
        self.state.loader_batch, self.state.seen = int(size), 0
        return self._change(
            step, epoch, "batch_size", batch, int(size), Reason.MEMORY_BELOW_TARGET, self._numbers(line)
        )

    def exchange(
        self, *, step: int, epoch: int, batch: int, sizes: Sequence[int], samples_per_step: int
    ) -> Adjustment | None:
        """One decision, at the start of an epoch, about the loader's batch where what the optimizer sees is kept.

        To the largest size that memory allows where there is room, and down to what is run at once where batches are
        run in pieces. What failed stays out, and after an error what was run since is the largest.

        Args:
            step: Optimizer steps done.
            epoch: The epoch that starts.
            batch: The loader's batch.
            sizes: Those it may have, smallest first, up to ``max_batch_size``; the first is the given one.
            samples_per_step: Samples per optimizer step, of which each size is a divisor.
        """
        whole = self.piece_size(batch) == batch
        chosen = self._larger(batch, sizes) if whole else self._smaller(batch, sizes)
        if chosen is None:
            return None
        size, reason, evidence = chosen
        state = self.state
        state.loader_batch, state.samples_per_step, state.seen = size, samples_per_step, 0
        if whole and state.micro_batch is not None:
            state.micro_batch = max(state.micro_batch, size)
        old, new = samples_per_step // batch, samples_per_step // size
        evidence = {"batch_size": float(size), **evidence}
        return self._change(step, epoch, "accumulate_grad_batches", old, new, reason, evidence)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _larger(self, batch: int, sizes: Sequence[int]) -> tuple[int, Reason, dict[str, float]] | None:
        line = self._room(batch)
        if line is None:
            return None
        largest = min(self._sizes_within_band(line), self._lowest_excess() - 1)
        if self.state.ceiling is not None and self.state.micro_batch is not None:
            largest = min(largest, self.state.micro_batch)
        size = max((size for size in sizes if size <= largest), default=batch)
        return (size, Reason.MEMORY_BELOW_TARGET, self._numbers(line)) if size > batch else None

    def _smaller(self, batch: int, sizes: Sequence[int]) -> tuple[int, Reason, dict[str, float]] | None:
        state = self.state
        size = max((size for size in sizes if size <= self.piece_size(batch)), default=sizes[0])
        if size >= batch:
            return None
        failed = state.ceiling is not None and state.ceiling <= batch
        return size, Reason.OUT_OF_MEMORY if failed else Reason.MEMORY_ABOVE_TARGET, {}

    def _room(self, batch: int) -> MemoryLine | None:
        """The line where batches of this size were observed whole, and leave memory below the band; else None."""
        state = self.state
        if state.loader_batch is not None and batch < state.loader_batch:
            return None  # a dry run: what it decided was not carried out
        # Batches that were drawn before a growth are smaller.
        if state.seen < GROWTH_OBSERVATIONS or set(state.samples[-GROWTH_OBSERVATIONS:]) != {batch}:
            return None
        if self.piece_size(batch) < batch:
            return None
        line = self._line(batch)
        return line if line is not None and self._below_band(line) else None
