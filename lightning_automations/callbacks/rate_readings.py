"""What the learning-rate automation reads between two decisions: losses, and where the gradient points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from lightning_automations.callbacks.ranks import Across
from lightning_automations.callbacks.training_loss import LossWindow
from lightning_automations.core.progress import WINDOW_STEPS
from lightning_automations.core.statistics import finite, mean
from lightning_automations.probes.path_alignment import PathAlignment, refusal

__all__ = ["ACROSS", "RateReadings"]

_LOSSES = tuple(f"loss_{place}" for place in range(WINDOW_STEPS))
_ALIGNMENTS = tuple(f"alignment_{place}" for place in range(WINDOW_STEPS))
ACROSS: Mapping[str, Across] = {
    "loss": Across.MEAN,
    "non_finite": Across.MAX,
    "metric": Across.MEAN,
    **dict.fromkeys((*_LOSSES, *_ALIGNMENTS), Across.MEAN),
}
"""One reading for each optimizer step of a window, so that all ranks see the same ones after one collective."""


class RateReadings:
    """One window of readings, kept on the device until they are taken.

    Args:
        losses: Losses of a window that a checkpoint has interrupted.
        alignments: Cosines of it.
        reads_alignment: Whether that window was to be read for the alignment.
    """

    def __init__(
        self, losses: Iterable[float] = (), alignments: Iterable[float] = (), *, reads_alignment: bool = False
    ) -> None:
        self.losses = LossWindow(losses)
        self.alignment = PathAlignment()
        self.alignment.restore(alignments)
        self.reads_alignment = reads_alignment

    def before_step(self, trainer: Trainer) -> None:
        """The gradients are there, the optimizer has not stepped yet."""
        if not self.reads_alignment:
            return
        if self.alignment.active:
            self.alignment.add()
            return
        parameters = _parameters_of(trainer)
        if not parameters or refusal(parameters) is not None:
            self.reads_alignment = False
        else:
            self.alignment.begin(parameters)

    def load_tensors(self, trainer: Trainer, tensors: Mapping[str, Any]) -> None:
        """Take up what ``tensors`` gave, for a window that a checkpoint has interrupted."""
        if self.reads_alignment:
            self.alignment.load_state_dict(tensors, _parameters_of(trainer))

    def tensors(self) -> dict[str, Any]:
        """What a checkpoint keeps of an open window besides ``state_dict``; empty where none is read."""
        return self.alignment.state_dict()

    def take(self) -> dict[str, float]:
        """The readings by their names in ``ACROSS``; a new window begins."""
        losses = self.losses.fetch()
        alignments = self.alignment.take()[-WINDOW_STEPS:]
        return {
            **self.losses.take(),
            **dict(zip(_LOSSES, in_places(losses), strict=True)),
            **dict(zip(_ALIGNMENTS, [*alignments, *[math.nan] * (WINDOW_STEPS - len(alignments))], strict=True)),
        }

    def clear(self) -> None:
        """Begin the window anew: what was read speaks of other weights or another loss."""
        self.losses.clear()
        self.alignment.clear()
        self.alignment.end()

    def read_alignment(self, *, wanted: bool) -> None:
        """Whether the window that begins is read for the alignment; if not, no memory is held for it."""
        self.reads_alignment = wanted
        if not wanted:
            self.alignment.end()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON-able values."""
        return {
            "losses": self.losses.fetch(),
            "alignments": self.alignment.fetch(),
            "reads_alignment": self.reads_alignment,
        }

    @staticmethod
    def losses_of(readings: Mapping[str, float]) -> list[float]:
        """The losses of the window, one for each step, NaN where there is none."""
        return [readings[name] for name in _LOSSES]

    @staticmethod
    def alignments_of(readings: Mapping[str, float]) -> list[float]:
        """The cosines of the window, NaN where there is none."""
        return [readings[name] for name in _ALIGNMENTS]


def _parameters_of(trainer: Trainer) -> list[Tensor]:
    """Those of the only optimizer; with several, the parameters of one step are not those of the next: none."""
    if len(trainer.optimizers) != 1:
        return []
    return [weight for group in trainer.optimizers[0].param_groups for weight in group["params"]]


def in_places(losses: Sequence[float]) -> list[float]:
    """One loss for each step: the mean of its finite ones where a step has several batches, NaN where it has none."""
    count = len(losses)
    if count <= WINDOW_STEPS:
        return [*losses, *[math.nan] * (WINDOW_STEPS - count)]
    edges = [round(place * count / WINDOW_STEPS) for place in range(WINDOW_STEPS + 1)]
    return [mean(finite(losses[first:last])) for first, last in pairwise(edges)]
