"""The losses of the training steps between two decisions, read without waiting for the device at every step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from lightning_automations.core.progress import WINDOW_STEPS
from lightning_automations.probes.deferred import DeferredReadings

__all__ = ["LossWindow"]


class LossWindow:
    """Collects the losses of one window.

    Args:
        losses: Losses of a window that a checkpoint has interrupted, as ``fetch`` gave them.
    """

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self._losses = DeferredReadings()
        self._losses.restore(losses)

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, trainer: Trainer, outputs: Any) -> None:
        """Take the loss out of what Lightning hands out after a batch; a training step may have returned none."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if isinstance(loss, Tensor) and loss.numel() == 1:
            # Lightning divides the loss that it hands out; in manual optimization it does not, and the number is 1.
            batches = trainer.accumulate_grad_batches
            self._losses.add(loss if batches == 1 else loss.detach() * batches)

    def take(self) -> dict[str, float]:
        """Mean of the finite losses (NaN: there are none) and share of those that are not finite; a new window begins.

        A window that was begun anew in its middle counts as a whole one: one NaN among two losses is not half of it.
        """
        losses = self._losses.take()
        finite = [loss for loss in losses if math.isfinite(loss)]
        mean = math.fsum(finite) / len(finite) if finite else math.nan
        return {"loss": mean, "non_finite": (len(losses) - len(finite)) / max(len(losses), WINDOW_STEPS)}

    def fetch(self) -> list[float]:
        """The losses of the window so far."""
        return self._losses.fetch()

    def clear(self) -> None:
        """Begin the window anew."""
        self._losses.clear()
