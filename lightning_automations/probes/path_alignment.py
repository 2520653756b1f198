"""Whether the gradient still points along the way that the last step went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lightning_automations.probes.deferred import DeferredReadings
from lightning_automations.probes.gradient_norm import gradient_norms, is_sharded, total_norm

__all__ = ["MOST_AT_ONCE", "PathAlignment", "refusal"]

MOST_AT_ONCE = 2**21
"""Elements that are worked on together: what ``add`` takes of memory, in 32 bits, where no parameter is larger."""


def refusal(parameters: Iterable[Tensor]) -> str | None:
    """Why the alignment of these parameters cannot be measured, in one sentence; None where it can.

    That gradients are sparse shows after the first backward pass only.

    Args:
        parameters: Those that would be given to ``PathAlignment.begin``.
    """
    for parameter in parameters:
        if is_sharded(parameter):
            return "Each process holds a part of the parameters only (DTensor)."
        if parameter.is_complex():
            return "Some parameters are complex numbers."
        if parameter.grad is not None and parameter.grad.layout is not torch.strided:
            return "Some gradients are sparse."
    return None


class PathAlignment:
    """The cosine between the gradient and the way that the last step of the optimizer went.

    The way is counted downhill, from where the parameters are to where they were. Near 1 the gradient still asks for
    more of the same: the learning rate is low. Near 0 the step was as long as the loss allows. Below 0 it went too far;
    where parameters swing about the bottom without leaving it, the sign changes from step to step, so that the mean of
    many readings says more than one. No unit is left in it, so loss scaling and clipping by the global norm do not
    change it.

    Source: the product of two gradients that follow each other is how fast the loss falls with the learning rate of the
    step between them (Baydin et al. 2018, arXiv 1703.04782), and its sign sets the rates of delta-bar-delta (Jacobs
    1988). The way instead of the earlier gradient, so that momentum and Adam's scaling count, is our own choice.

    The parameters are kept twice between ``begin`` and ``end``, and ``add`` takes the memory of ``MOST_AT_ONCE``
    elements or of the largest parameter for a moment. Nothing is read from the device before it is asked for. A reading
    is NaN where there is no angle: a gradient that is not finite, one of zeros (or below about 1e-20 everywhere, where
    squares vanish), and parameters that stand where they were because the step was skipped.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([2.0, 0.0]))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> alignment = PathAlignment()
        >>> for step in range(3):
        ...     weight.grad = weight.detach().clone()  # of the loss |weight|² / 2
        ...     alignment.add() if step else alignment.begin([weight])
        ...     optimizer.step()
        >>> alignment.take()
        [1.0, 1.0]
    """

    def __init__(self) -> None:
        self._readings = DeferredReadings()
        self._parameters: list[Tensor] = []
        self._remembered: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._readings)

    @property
    def active(self) -> bool:
        """Whether parameters are remembered."""
        return bool(self._remembered)

    @torch.no_grad()
    def begin(self, parameters: Iterable[Tensor]) -> None:
        """Remember the parameters as they are, before a step of the optimizer. The readings stay.

        Memory is taken on the parameters' devices the first time, and again only where they have other shapes.

        Args:
            parameters: Those that the optimizer changes, none for which ``refusal`` has a sentence. Those without
                ``requires_grad`` are left out.
        """
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        if list(map(_form, self._parameters)) != list(map(_form, self._remembered)):
            self._remembered = []  # before the new memory is taken, so that both never exist together
            self._remembered = [torch.empty_like(parameter) for parameter in self._parameters]
        self._remember()

    @torch.no_grad()
    def add(self) -> None:
        """Keep the cosine of one step, and remember the parameters anew.

        Called once before each later step of the optimizer, when the gradients are there. Without any gradient nothing
        is kept.
        """
        portions = _portions(self._parameters, self._remembered)
        if portions:
            parts = [portion.product_and_norms() for portion in portions]
            products, ways, gradients = torch.stack([part.to(parts[0].device) for part in parts]).unbind(dim=1)
            # One division after the other: the product of two norms overflows long before they do.
            cosine = products.sum() / total_norm(ways) / total_norm(gradients)
            self._readings.add(cosine.clamp(-1.0, 1.0))
        self._remember()

    def end(self) -> None:
        """Free the remembered parameters. The readings stay."""
        self._parameters, self._remembered = [], []

    def fetch(self) -> list[float]:
        """The cosines since the last ``clear``, -1 to 1 or NaN, oldest first; one transfer from the device."""
        return self._readings.fetch()

    def take(self) -> list[float]:
        """``fetch`` and ``clear`` in one."""
        return self._readings.take()

    def restore(self, readings: Iterable[float]) -> None:
        """Start again from readings that ``fetch`` gave."""
        self._readings.restore(readings)

    def clear(self) -> None:
        """Forget the readings."""
        self._readings.clear()

    def state_dict(self) -> dict[str, Any]:
        """The remembered parameters, to be saved before the next step; empty where none are.

        The tensors are the remembered ones and no copies, so that a checkpoint takes no memory on the device.
        """
        return {"remembered": list(self._remembered)} if self.active else {}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any], parameters: Iterable[Tensor]) -> None:
        """Take up what ``state_dict`` gave; the readings stay.

        Args:
            state: Its tensors may lie on any device.
            parameters: As for ``begin``, in the same order.

        Raises:
            ValueError: Where the remembered parameters have other shapes than those given.
        """
        if not state:
            self.end()
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        expected, received = ([tuple(item.shape) for item in items] for items in (trained, state["remembered"]))
        if expected != received:
            raise ValueError(f"Expected remembered parameters of the shapes {expected} but got {received}")
        self.begin(trained)
        torch._foreach_copy_(self._remembered, state["remembered"])

    def _remember(self) -> None:
        if self._parameters:
            torch._foreach_copy_(self._remembered, self._parameters)


def _form(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _portions(parameters: Sequence[Tensor], remembered: Sequence[Tensor]) -> list[_Portion]:
    """Parameters that have a gradient and what they were, by device and type: foreach is fast within those only."""
    portions: list[_Portion] = []
    last: dict[tuple[torch.device, torch.dtype], _Portion] = {}
    for parameter, before in zip(parameters, remembered, strict=True):
        if parameter.grad is None:
            continue
        kind = (parameter.device, parameter.dtype)
        if kind not in last or last[kind].elements + parameter.numel() > MOST_AT_ONCE:
            last[kind] = _Portion()
            portions.append(last[kind])
        last[kind].add(parameter, before)
    # The results meet on the device of the first portion. On the CPU that would wait for a GPU beside it.
    return sorted(portions, key=lambda portion: portion.now[0].device.type == "cpu")


@dataclass
class _Portion:
    """Parameters of one device and one type that are worked on together."""

    now: list[Tensor] = field(default_factory=list)
    start: list[Tensor] = field(default_factory=list)
    elements: int = 0

    def add(self, parameter: Tensor, before: Tensor) -> None:
        self.now.append(parameter)
        self.start.append(before)
        self.elements += parameter.numel()

    def product_and_norms(self) -> Tensor:
        """Way times gradient, and the norms of both, on the device in 32 bits: shape (3,)."""
        # In 32 bits or more: in 16 the products vanish. In one piece: there is no foreach sum, and the sum of sizes
        # (the norm of order 1) is off by half from 1e8 elements on where the CPU takes it.
        wide = torch.promote_types(self.now[0].dtype, torch.float32)
        flat = torch.empty(self.elements, dtype=wide, device=self.now[0].device)
        pieces = torch.split(flat, [before.numel() for before in self.start])
        way = [piece.view(before.shape) for piece, before in zip(pieces, self.start, strict=True)]
        torch._foreach_copy_(way, self.start)
        torch._foreach_sub_(way, self.now)
        norms = total_norm(flat), total_norm(gradient_norms(self.now))
        torch._foreach_mul_(way, [parameter.grad for parameter in self.now if parameter.grad is not None])
        return torch.stack([part.to(torch.float32) for part in (flat.sum(), *norms)])
