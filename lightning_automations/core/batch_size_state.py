"""What ``BatchSizeBrain`` learns in a run; all of it goes into checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SMALLEST_OF_RANKS", "BatchSizeState"]

SMALLEST_OF_RANKS = ("micro_batch", "ceiling", "largest_fit", "seen", "calm")
"""What a rank changes by itself when it runs out of memory. The smallest number of all ranks holds for all of them."""

_SIZES = ("micro_batch", "ceiling")
"""Those of them that may be None, and else are 1 or more."""
_MOST = 2**53


@dataclass(kw_only=True)
class BatchSizeState:
    """What the brain has learned.

    Args:
        micro_batch: Samples per piece; None: batches are run whole.
        ceiling: The smallest size that ran out of memory; None: none did.
        largest_fit: The largest size that was run and did not.
        loader_batch: The size that the loader's batch was brought to; None: it is as it was given.
        samples_per_step: Samples per optimizer step that were kept in doing so, by less accumulation; None: they were
            not kept, the loader's batch has grown.
        baseline: Share of memory in use before training; None: unknown.
        samples: Sizes observed, oldest first.
        shares: Their peaks as shares of the memory.
        seen: Observations since the last change.
        calm: Decisions since the last out-of-memory error or the last climb after one.
        climbs: How often a larger size was tried after an error.
    """

    micro_batch: int | None = None
    ceiling: int | None = None
    largest_fit: int = 0
    loader_batch: int | None = None
    samples_per_step: int | None = None
    baseline: float | None = None
    samples: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    seen: int = 0
    calm: int = 0
    climbs: int = 0

    def shared(self) -> dict[str, float]:
        """What the ranks have to agree in before they decide; NaN stands for None."""
        numbers = {name: getattr(self, name) for name in (*SMALLEST_OF_RANKS, "baseline")}
        return {name: math.nan if value is None else float(value) for name, value in numbers.items()}

    def take_up(self, shared: Mapping[str, float]) -> None:
        """Go on from what the ranks have agreed in: of all else every rank has seen the same.

        A number that none of them can have sent changes nothing.
        """
        for name in SMALLEST_OF_RANKS:
            value, is_size = shared[name], name in _SIZES
            if math.isnan(value) and is_size:
                setattr(self, name, None)
            elif int(is_size) <= value < _MOST:
                setattr(self, name, int(value))
        baseline = shared["baseline"]
        if math.isnan(baseline) or 0 <= baseline <= 1:
            self.baseline = None if math.isnan(baseline) else baseline
