"""How large a batch memory allows: the decisions, without torch or Lightning."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lightning_automations.core.batch_size_settings import BatchSizeFallback, BatchSizeSettings
from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.loader_decisions import LoaderDecisions
from lightning_automations.core.memory_judgement import LEAST_GROWTH
from lightning_automations.core.memory_model import MemoryLine, level_shift
from lightning_automations.core.pieces import smaller_piece
from lightning_automations.core.statistics import pushed

__all__ = ["BatchSizeBrain", "BatchSizeFallback", "BatchSizeSettings"]

CALM_DECISIONS = 10
"""Decisions without an error before a size between the one in use and the one that failed is tried."""
MOST_CLIMBS = 3
LEAST_SHIFT = 0.02
"""Share of the memory up to which a difference between two observations of one size is noise at any margin."""


class BatchSizeBrain(LoaderDecisions):
    """Decides how many samples are run at once, and how many the loader puts into a batch.

    After an out-of-memory error the size is halved and the failed size never chosen again. Otherwise one straight
    line through the observations says which size fits. Every change must be observed before the next one.

    Args:
        settings: The settings.
    """

    def start(self, share: float) -> None:
        """Take the share of memory in use before training, unless an earlier part of this run gave it."""
        if self.state.baseline is None and not math.isnan(share):
            self.state.baseline = share

    def went_well(self, size: int) -> None:
        """Pieces of this size were run."""
        self.state.largest_fit = max(self.state.largest_fit, size)

    def recover(self, *, step: int, epoch: int, failed: int, samples: int) -> Adjustment | None:
        """The next size after pieces of ``failed`` samples ran out of memory; None at ``min_batch_size``."""
        size = smaller_piece(samples, failed, least=self.settings.min_batch_size)
        if size is None:
            return None
        state = self.state
        state.ceiling = failed if state.ceiling is None else min(state.ceiling, failed)
        state.largest_fit = min(state.largest_fit, state.ceiling - 1)
        state.micro_batch = size
        state.seen = state.calm = 0
        return self._change(step, epoch, "micro_batch_size", failed, size, Reason.OUT_OF_MEMORY, {"batch": samples})

    def agree(self, *, step: int, epoch: int, batch: int | None, shared: Mapping[str, float]) -> Adjustment | None:
        """Take up what happened to other ranks since the last decision; a smaller size of theirs becomes this rank's.

        Args:
            step: Optimizer steps done.
            epoch: The epoch.
            batch: This rank's largest batch so far; None: unknown.
            shared: ``BatchSizeState.shared`` of all ranks: the smallest of each, of ``baseline`` the largest.
        """
        own, state = self.state.micro_batch, self.state
        state.take_up(shared)
        old = batch if own is None else own
        if old is None or state.micro_batch is None or state.micro_batch >= old:
            return None
        return self._change(step, epoch, "micro_batch_size", old, state.micro_batch, Reason.OUT_OF_MEMORY_ELSEWHERE, {})

    def retire(self) -> None:
        """Where memory demanded pieces, keep to the fallback's size or to what was seen to fit."""
        state, size = self.state, self.settings.fallback.get("batch_size")
        if state.micro_batch is not None and size is not None:
            state.micro_batch = min(size, state.largest_fit or state.micro_batch)

    def observe(self, *, step: int, epoch: int, samples: int, share: float, batch: int) -> Adjustment | None:
        """One decision about the size of the pieces.

        Args:
            step: Optimizer steps done.
            epoch: The epoch.
            samples: The most samples run at once since the last decision.
            share: The peak of memory since then, as a share of it; NaN: unknown.
            batch: The largest batch since then.
        """
        state = self.state
        state.calm += 1
        if not math.isnan(share):
            self._remember(samples, share)
            self._follow_the_others()
            self._learn_baseline(samples)
        if samples != self.piece_size(batch):
            return None  # the last change has not been seen at work
        state.seen += 1
        line = self._line(samples)
        if line is not None and line.share > self.settings.target_vram_usage:
            return self._shrink(step, epoch, line, batch)
        if state.micro_batch is None or state.micro_batch >= batch:
            return None
        if state.ceiling is None:
            return self._widen(step, epoch, line, batch)
        return self._climb(step, epoch, line, batch, size=(state.micro_batch + state.ceiling) // 2)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _remember(self, samples: int, share: float) -> None:
        """Keep a reading. Where a size has failed that was seen to fit, nothing seen before holds any more."""
        state, ceiling = self.state, math.inf if self.state.ceiling is None else self.state.ceiling
        if any(size >= ceiling for size in state.samples):
            state.samples, state.shares = (), ()
        if samples < ceiling:  # else it began before the failure
            state.samples = (*state.samples, samples)[-self.settings.vram_history_size :]
            state.shares = pushed(state.shares, share, size=self.settings.vram_history_size)

    def _follow_the_others(self) -> None:
        """Where all else in memory has changed, let what was observed before stand as if it had been so then."""
        state = self.state
        tolerance = max(self.settings.safety_margin, LEAST_SHIFT)
        shift = level_shift(state.samples, state.shares, tolerance=tolerance)
        if shift != 0.0:
            state.shares = (*(share + shift for share in state.shares[:-2]), *state.shares[-2:])
            state.baseline = None if state.baseline is None else state.baseline + shift

    def _learn_baseline(self, samples: int) -> None:
        """What two sizes say of all else in memory is kept for when only one of them is still remembered."""
        line = self._line(samples) if len(set(self.state.samples)) > 1 else None
        if line is not None:
            self.state.baseline = max(0.0, line.share_at(0))

    def _shrink(self, step: int, epoch: int, line: MemoryLine, batch: int) -> Adjustment | None:
        lowest = self.settings.min_batch_size
        if line.share_at(lowest) > self.settings.target_vram_usage:
            return None  # what fills the memory is not the samples: pieces would cost time and gain nothing
        size = int(max(lowest, min(self._sizes_within_band(line), line.samples - 1)))
        if self._piece_at(batch, size) >= line.samples:
            return None  # no piece may be smaller
        return self._resize(step, epoch, line, size, Reason.MEMORY_ABOVE_TARGET)

    def _widen(self, step: int, epoch: int, line: MemoryLine | None, batch: int) -> Adjustment | None:
        if line is None or not self._below_band(line):
            return None
        size = int(min(self._sizes_within_band(line), self._lowest_excess() - 1, batch))
        if not self._is_growth(batch, size):
            return None
        return self._resize(step, epoch, line, size, Reason.MEMORY_BELOW_TARGET)

    def _climb(self, step: int, epoch: int, line: MemoryLine | None, batch: int, *, size: int) -> Adjustment | None:
        """After an error: half the way to the size that failed, seldom, at most a few times, not beyond the band."""
        state, size = self.state, int(min(size, self._lowest_excess() - 1))
        if line is not None:
            size = int(min(size, max(0, self._sizes_within_band(line))))
        if state.calm < CALM_DECISIONS or state.climbs >= MOST_CLIMBS or not self._is_growth(batch, size):
            return None
        state.climbs += 1
        state.calm = 0
        return self._resize(step, epoch, line, size, Reason.NO_ERROR_SINCE)

    def _is_growth(self, batch: int, size: int) -> bool:
        """Whether pieces of this size gain anything; a single sample above the target leaves no size at all, 0."""
        return size > 0 and self._piece_at(batch, size) >= LEAST_GROWTH * self.piece_size(batch)

    def _resize(self, step: int, epoch: int, line: MemoryLine | None, size: int, reason: Reason) -> Adjustment:
        old, self.state.micro_batch, self.state.seen = self.state.micro_batch, size, 0
        if old is None and line is not None:
            old = line.samples
        return self._change(step, epoch, "micro_batch_size", old, size, reason, self._numbers(line))
