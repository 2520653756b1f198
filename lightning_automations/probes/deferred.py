"""Readings that stay on the device until they are wanted."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor

__all__ = ["MOST_WAITING", "DeferredReadings"]

MOST_WAITING = 1000
"""Tensors on the device; a reader that comes by rarely costs a transfer in between, and no memory."""


class DeferredReadings:
    """Scalars collected step by step and fetched together.

    Reading a number from a GPU waits for the GPU. Collected here, ``n`` readings cost one such wait instead of ``n``.

    Example:
        >>> readings = DeferredReadings()
        >>> readings.add(torch.tensor(0.5))
        >>> readings.add(torch.tensor(0.25))
        >>> readings.fetch()
        [0.5, 0.25]
    """

    def __init__(self) -> None:
        self._fetched: list[float] = []
        self._waiting: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._fetched) + len(self._waiting)

    def add(self, value: Tensor | float) -> None:
        """Keep one reading: a tensor of one element that nobody changes in place afterwards, or a number."""
        if not isinstance(value, Tensor):
            if self._waiting:
                self.fetch()
            self._fetched.append(value)
            return
        value = value.detach()
        self._waiting.append(value if value.ndim == 0 else value.reshape(()))
        if len(self._waiting) >= MOST_WAITING:
            self.fetch()

    def fetch(self) -> list[float]:
        """All readings since the last ``clear``, oldest first; one transfer from the device."""
        if self._waiting:
            # In the widest type that occurs: some devices have no float64.
            widest = reduce(torch.promote_types, (value.dtype for value in self._waiting))
            self._fetched += torch.stack([value.to(widest) for value in self._waiting]).tolist()
            self._waiting.clear()
        return list(self._fetched)

    def clear(self) -> None:
        """Forget everything."""
        self._fetched.clear()
        self._waiting.clear()

    def take(self) -> list[float]:
        """``fetch`` and ``clear`` in one."""
        readings = self.fetch()
        self.clear()
        return readings

    def restore(self, readings: Iterable[float]) -> None:
        """Start again from readings that ``fetch`` gave, for a run that is resumed."""
        self.clear()
        self._fetched.extend(readings)
