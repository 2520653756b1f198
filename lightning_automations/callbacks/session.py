"""What the automations of one fit have in common: the log folder, the learning-rate writer, and each other's ear."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Trainer

from lightning_automations.callbacks.rate import RateWriter
from lightning_automations.core.events import Event

if TYPE_CHECKING:
    from lightning_automations.callbacks.base import AutomationCallback

__all__ = ["Across", "FitSession", "agreed"]


class Across(str, Enum):
    """How one reading of several ranks becomes one number. A rank without a reading says NaN."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


class FitSession:
    """One fit, shared by all automations of a trainer. The first to start opens it, the last to end closes it.

    Args:
        trainer: The trainer, at its start of training.
        automations: All automations of the trainer.
    """

    def __init__(self, trainer: Trainer, automations: Sequence[AutomationCallback]) -> None:
        self.run = uuid.uuid4().hex[:12]
        self.has_logger = bool(trainer.loggers)
        self.log_dir = trainer.log_dir  # a collective: every rank comes by here
        self.automations = tuple(automations)
        self.rate = RateWriter(trainer)

    def announce(self, trainer: Trainer, event: Event, *, source: AutomationCallback) -> None:
        """Tell every other automation what happened."""
        for automation in self.automations:
            if automation is not source:
                automation.receive(trainer, event)

    def close(self) -> None:
        """Give back what was put in place for the fit."""
        self.rate.detach()


def agreed(
    trainer: Trainer, readings: Mapping[str, float], across: Mapping[str, Across], *, failed: bool
) -> tuple[dict[str, float], bool]:
    """Make one reading of all ranks' readings, in one collective.

    Args:
        trainer: The trainer.
        readings: This rank's numbers; a name that is missing counts as NaN.
        across: How each name is combined. Its order is the order on every rank.
        failed: Whether the automation failed on this rank.

    Returns:
        The combined readings, and whether the automation failed on any rank.
    """
    own = [float(failed), *(readings.get(name, float("nan")) for name in across)]
    if trainer.world_size == 1:
        return dict(zip(across, own[1:])), failed
    # float32 is what every backend can gather; two ranks then still see the same numbers.
    vector = torch.tensor(own, dtype=torch.float32, device=trainer.strategy.root_device)
    rows = trainer.strategy.all_gather(vector).reshape(trainer.world_size, len(own)).tolist()
    columns = dict(zip(across, list(zip(*rows))[1:]))
    combined = {name: _combined(columns[name], how) for name, how in across.items()}
    return combined, any(row[0] > 0 for row in rows)


def _combined(values: Sequence[float], how: Across) -> float:
    known = [value for value in values if value == value]
    if not known:
        return float("nan")
    if how is Across.MAX:
        return max(known)
    return min(known) if how is Across.MIN else sum(known) / len(known)
