"""What a batch-size automation knows of the memory, and what it reads from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_automations.core.batch_size_settings import BatchSizeSettings
from lightning_automations.core.batch_size_state import BatchSizeState
from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.memory_model import MemoryLine, line_through, smallest_above
from lightning_automations.core.pieces import in_company, largest_piece
from lightning_automations.core.state import dumped, restored

__all__ = ["LEAST_GROWTH", "MemoryJudgement"]

LEAST_GROWTH = 1.05
"""Smaller steps up are left alone: they gain nothing, and noise alone would cause them."""
OBSERVATIONS_JUDGED = 5
"""Observations since the last change whose median is judged: one reading that stands out changes nothing."""


class MemoryJudgement:
    """What was observed, and the line through it; decides nothing.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: BatchSizeSettings) -> None:
        self.settings = settings
        self.state = BatchSizeState()

    def state_dict(self) -> dict[str, Any]:
        return dumped(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = restored(BatchSizeState, state)

    def piece_size(self, samples: int) -> int:
        """Samples in the largest piece of a batch of so many; pieces are as few and as even as possible."""
        micro_batch = self.state.micro_batch
        return samples if micro_batch is None else self._piece_at(samples, micro_batch)

    # For the decisions ------------------------------------------------------------------------------------------------

    def _piece_at(self, samples: int, size: int) -> int:
        """The same where pieces have at most ``size`` samples, a little more where that leaves no small remainder."""
        even, ceiling = largest_piece(samples, size, least=in_company(self.settings.min_batch_size)), self.state.ceiling
        return even if ceiling is None or even < ceiling else largest_piece(samples, size)

    def _line(self, samples: int) -> MemoryLine | None:
        """The line through the last observations of this size; None where nothing was measured."""
        state = self.state
        return line_through(
            state.samples,
            state.shares,
            size=samples,
            latest=min(state.seen, OBSERVATIONS_JUDGED),
            baseline=state.baseline,
        )

    def _sizes_within_band(self, line: MemoryLine) -> float:
        return line.largest_under(self.settings.target_vram_usage - self.settings.safety_margin / 2)

    def _below_band(self, line: MemoryLine) -> bool:
        return line.share < self.settings.target_vram_usage - self.settings.safety_margin

    def _lowest_excess(self) -> float:
        """The smallest size that failed, or that the observations kept show above the target."""
        above = smallest_above(self.state.samples, self.state.shares, share=self.settings.target_vram_usage)
        return above if self.state.ceiling is None else min(above, self.state.ceiling)

    def _numbers(self, line: MemoryLine | None) -> dict[str, float]:
        if line is None:
            return {}
        return {"memory_share": line.share, "target": self.settings.target_vram_usage, "per_sample": line.slope}

    def _change(
        self,
        step: int,
        epoch: int,
        parameter: str,
        old: int | None,
        new: int,
        reason: Reason,
        evidence: dict[str, float],
    ) -> Adjustment:
        return Adjustment(
            step=step,
            epoch=epoch,
            automation=self.settings.automation,
            parameter=parameter,
            old=old,
            new=new,
            reason=reason,
            evidence=evidence,
        )
