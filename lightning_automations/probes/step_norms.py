"""The gradient norms of the steps since the last decision, and which parameter made the far ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_automations.probes.deferred import DeferredReadings

__all__ = ["MOST_BEHIND", "Dominant", "Step", "StepNorms"]

MOST_BEHIND = 100
"""Steps of which the norm of each parameter is kept until it is known whether one of them was an outlier."""


@dataclass(frozen=True)
class Dominant:
    """The parameter with the largest gradient of a step.

    Args:
        parameter: Its name; of several that are not finite the first.
        share: Its norm over that of all gradients, 0 to 1; None where that is not finite.
    """

    parameter: str
    share: float | None


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Args:
        place: Among all that wait.
        step: Optimizer steps done before it.
        norm: Of its gradients before clipping.
    """

    place: int
    step: int
    norm: float


class StepNorms:
    """One norm a step, of several optimizers in turn. Nothing is read from the device before it is asked for."""

    def __init__(self) -> None:
        self._norms = DeferredReadings()
        self._owners: list[tuple[int, int]] = []
        self._behind: dict[int, tuple[Sequence[Tensor], Tensor]] = {}
        self._dominant: dict[int, Dominant] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, optimizer: int, norm: Tensor | float, *, step: int) -> None:
        """Keep the norm of one step.

        Args:
            optimizer: Index of the optimizer whose step it is.
            norm: Of all its gradients; a number where it has been read already.
            step: Optimizer steps done before it.
        """
        self._norms.add(norm)
        self._owners.append((optimizer, step))

    def add_behind(self, parameters: Sequence[Tensor], norms: Tensor) -> None:
        """Keep what the last norm is made of, and no more than ``MOST_BEHIND`` of them.

        Args:
            parameters: Those that had gradients.
            norms: Of their gradients, shape (parameters,); nobody changes it afterwards.
        """
        self._behind[len(self._owners) - 1] = (parameters, norms)
        if len(self._behind) > MOST_BEHIND:
            del self._behind[next(iter(self._behind))]

    def owners(self) -> set[int]:
        """Indexes of the optimizers whose steps wait."""
        return {optimizer for optimizer, _ in self._owners}

    def by_optimizer(self) -> dict[int, list[Step]]:
        """The steps of each optimizer, oldest first; one transfer."""
        grouped: dict[int, list[Step]] = {}
        for place, ((index, step), norm) in enumerate(zip(self._owners, self._norms.fetch(), strict=True)):
            grouped.setdefault(index, []).append(Step(place, step, norm))
        return grouped

    def dominant(self, place: int, names: Mapping[int, str]) -> Dominant | None:
        """The parameter that made the norm at this place, or None where nothing was kept of it.

        Args:
            place: From ``by_optimizer``.
            names: Of the parameters, by their ``id``.
        """
        if place in self._behind:
            parameters, norms = self._behind.pop(place)
            largest, place_of_largest = norms.max(dim=0)  # the first NaN counts as the largest
            share = largest / torch.linalg.vector_norm(norms)
            number, share_read = torch.stack([place_of_largest.to(torch.float64), share.to(torch.float64)]).tolist()
            name = names.get(id(parameters[int(number)]), "a parameter that came later")
            self._dominant[place] = Dominant(name, share_read if math.isfinite(share_read) else None)
        return self._dominant.get(place)

    def clear(self) -> None:
        """Forget everything."""
        self._norms.clear()
        self._owners.clear()
        self._behind.clear()
        self._dominant.clear()

    def state_dict(self, names: Mapping[int, str]) -> dict[str, Any]:
        """What waits, as JSON-able values; the tensors behind it become names."""
        for place in list(self._behind):
            self.dominant(place, names)
        return {
            "norms": self._norms.fetch(),
            "owners": [list(owner) for owner in self._owners],
            "dominant": {str(place): [item.parameter, item.share] for place, item in self._dominant.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Start again from what ``state_dict`` gave."""
        self.clear()
        self._norms.restore(state["norms"])
        self._owners.extend((optimizer, step) for optimizer, step in state["owners"])
        self._dominant.update({int(place): Dominant(*item) for place, item in state["dominant"].items()})
