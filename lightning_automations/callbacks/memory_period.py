"""What is seen of batches and memory between two decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from lightning_automations.probes.memory import MemoryProbe
from lightning_automations.probes.out_of_memory import free_cached_memory

__all__ = ["MemoryPeriod"]


class MemoryPeriod:
    """The largest batch, the most samples run at once, and the peak of memory since the last decision.

    Args:
        probe: Reads the memory; None where it cannot be read.
    """

    def __init__(self, probe: MemoryProbe | None = None) -> None:
        self.probe = probe
        self._samples = 0
        self._batch = 0
        self._peak_share = 0.0

    def saw(self, size: int, samples: int) -> None:
        """A batch was run, so many samples at once."""
        if size > self._samples:
            self._samples = size
        if samples > self._batch:
            self._batch = samples

    def keep_peak(self) -> None:
        """Take up the peak so far, before it is reset."""
        if self.probe is not None:
            self._peak_share = max(self._peak_share, self.probe.read().peak_share)

    def reset_peak(self) -> None:
        """Let the peak start again from what is in use."""
        if self.probe is not None:
            self.probe.reset_peak()

    def forget_peak(self, device: torch.device) -> None:
        """Let the next reading be of a size that has just been chosen."""
        # The allocator keeps what the larger size needed: emptied once.
        free_cached_memory(device)
        self.reset_peak()

    def begin_anew(self) -> None:
        """The next period starts here, with nothing seen."""
        self._samples, self._batch, self._peak_share = 0, 0, 0.0
        self.reset_peak()

    def take(self) -> dict[str, float]:
        """The readings of the period, which ends."""
        self.keep_peak()
        peak = self._peak_share if self.probe is not None else math.nan
        readings = {"samples": float(self._samples), "batch": float(self._batch), "peak_share": peak}
        self.begin_anew()
        return readings

    def state_dict(self) -> dict[str, Any]:
        """What has been seen of this period, as JSON-able values."""
        self.keep_peak()
        return {"samples": self._samples, "batch": self._batch, "peak_share": self._peak_share}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self._samples, self._batch = int(state["samples"]), int(state["batch"])
        self._peak_share = float(state["peak_share"])
