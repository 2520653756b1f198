"""How several ranks come to one reading, so that all decide the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import torch
from lightning.pytorch import Trainer

__all__ = ["Across", "agreed"]


class Across(str, Enum):
    """How one reading of several ranks becomes one number. A rank without a reading says NaN."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


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
        return dict(zip(across, own[1:], strict=True)), failed
    # float32 is what every backend can gather; two ranks then still see the same numbers.
    vector = torch.tensor(own, dtype=torch.float32, device=trainer.strategy.root_device)
    rows = trainer.strategy.all_gather(vector).reshape(trainer.world_size, len(own)).tolist()
    columns = dict(zip(across, list(zip(*rows, strict=True))[1:], strict=True))
    combined = {name: _combined(columns[name], how) for name, how in across.items()}
    return combined, any(row[0] > 0 for row in rows)


def _combined(values: Sequence[float], how: Across) -> float:
    known = [value for value in values if value == value]
    if not known:
        return float("nan")
    if how is Across.MEAN:
        return sum(known) / len(known)
    return max(known) if how is Across.MAX else min(known)
