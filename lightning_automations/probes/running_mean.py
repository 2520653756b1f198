"""The mean of many readings, summed up on the device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["RunningMean"]


class RunningMean:
    """Adds scalars up where they are and reads back one number when it is wanted.

    Unlike a list of readings its size does not grow with their number, and one addition per reading is all it costs.

    Example:
        >>> losses = RunningMean()
        >>> losses.add(torch.tensor(1.0))
        >>> losses.add(torch.tensor(2.0), weight=2.0)
        >>> losses.mean()
        2.5
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._restored = 0.0
        self._count = 0

    def add(self, value: Tensor, *, weight: float = 1.0) -> None:
        """Add one reading, a tensor of one element, times a weight."""
        value = value.detach().reshape(())
        if self._sum is None:
            self._sum = torch.full((), self._restored, dtype=torch.float32, device=value.device)
        self._sum.add_(value, alpha=weight)
        self._count += 1

    def mean(self) -> float | None:
        """The sum over the number of readings, or None of nothing; waits for the device."""
        return self.total() / self._count if self._count else None

    def total(self) -> float:
        """The sum; waits for the device."""
        return self._restored if self._sum is None else float(self._sum)

    @property
    def count(self) -> int:
        """How many readings were added."""
        return self._count

    def restore(self, total: float, count: int) -> None:
        """Start again from what ``total`` and ``count`` gave, or from nothing with 0 and 0."""
        self._sum, self._restored, self._count = None, total, count
