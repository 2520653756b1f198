"""The best weights of a run, kept on the host."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

__all__ = ["BestWeights", "averages_weights", "size_in_megabytes"]

_AVERAGING = frozenset({"StochasticWeightAveraging", "WeightAveraging"})


class BestWeights:
    """Two copies of a module's state on the host: of the weights validated last, and of the best of them.

    The weights are copied while they are validated, before anyone knows how good they are: a callback that averages
    weights lends the averaged ones to the module for just that time. What was measured is what is kept.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.value: float | None = None
        self._best: dict[str, Any] = {}
        self._candidate: dict[str, Any] = {}
        self._candidate_step: int | None = None

    def look(self, module: LightningModule, *, step: int) -> None:
        """Copy the module's state as the candidate, unless that of this step is there already."""
        if self._candidate_step == step:
            return
        self._candidate = {
            name: _on_host(value, self._candidate.get(name)) for name, value in module.state_dict().items()
        }
        self._candidate_step = step

    def keep(self, value: float) -> None:
        """The candidate is the new best; its metric is given."""
        self._best, self._candidate = self._candidate, self._best
        self.step, self.value, self._candidate_step = self._candidate_step, value, None

    def put_back(self, module: LightningModule) -> None:
        """Load the best weights into the module."""
        module.load_state_dict(self._best)

    def as_dict(self) -> dict[str, Any]:
        """The best weights for a checkpoint; they load with ``weights_only=True`` where the module's own do."""
        return {"step": self.step, "value": self.value, "weights": dict(self._best)}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take up what ``as_dict`` gave."""
        self.step, self.value = saved["step"], saved["value"]
        self._best = {name: _on_host(value, None) for name, value in saved["weights"].items()}


def size_in_megabytes(module: LightningModule) -> float:
    """Size of the module's state."""
    tensors = [value for value in module.state_dict().values() if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6


def averages_weights(trainer: Trainer) -> bool:
    """Whether a callback overwrites the weights with an average of them when training ends."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    kinds = {kind.__name__ for callback in callbacks for kind in type(callback).__mro__}
    return not _AVERAGING.isdisjoint(kinds)


def _on_host(value: Any, buffer: Any) -> Any:
    """A copy on the host, in the buffer of an earlier copy where that fits."""
    if not isinstance(value, torch.Tensor):
        return copy.deepcopy(value)
    value = value.detach()
    if isinstance(buffer, torch.Tensor) and buffer.shape == value.shape and buffer.dtype == value.dtype:
        return buffer.copy_(value)
    return value.to("cpu", copy=True)
