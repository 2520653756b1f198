"""What a training step changes besides the parameters, put back when the step is run again.

Taken before every step, so it must cost next to nothing: references where the step replaces values, copies only where
it writes in place.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

__all__ = ["GradientsAside", "GradientsKept", "ModuleBuffers", "ModuleMetrics", "RandomStates"]

SMALL_BUFFER = 65_536
"""Elements up to which a buffer is copied at every step. Batch normalization writes its statistics without raising
the tensor's version counter, so the counter cannot be asked. Larger buffers (masks, queues) are copied when it rose."""


class RandomStates:
    """The states of the random generators of torch (host and device), Python, and NumPy where it is loaded.

    Args:
        device: The device that the step runs on.
    """

    def __init__(self, device: torch.device) -> None:
        self._torch = torch.get_rng_state()
        self._device = torch.get_device_module(device) if device.type != "cpu" else None
        self._on_device = self._device.get_rng_state() if self._device is not None else None
        self._python = random.getstate()
        self._numpy = sys.modules.get("numpy.random")
        self._of_numpy = self._numpy.get_state() if self._numpy is not None else None

    def put_back(self) -> None:
        """The generators go on from where they were."""
        torch.set_rng_state(self._torch)
        if self._device is not None:
            self._device.set_rng_state(self._on_device)
        random.setstate(self._python)
        if self._numpy is not None:
            self._numpy.set_state(self._of_numpy)


class ModuleBuffers:
    """Shadow copies of a module's buffers, brought up to date by ``keep``.

    Args:
        module: The module. Modules that are added to it later are not seen.
    """

    def __init__(self, module: nn.Module) -> None:
        self._owners = [
            (child._buffers, name)
            for child in module.modules()
            for name, buffer in child._buffers.items()
            if buffer is not None
        ]
        self._places: list[tuple[dict[str, Tensor | None], str]] = []
        self._kept: list[Tensor] = []
        self._shadows: list[Tensor] = []
        self._versions: dict[int, int] = {}
        self._groups: list[tuple[list[Tensor], list[Tensor]]] = []
        self._large: list[tuple[int, Tensor, Tensor]] = []

    def keep(self) -> None:
        """Remember the values of this moment."""
        if not self._owners:
            return
        buffers = [buffer for owner, name in self._owners if (buffer := owner.get(name)) is not None]
        with torch.no_grad():
            if len(buffers) != len(self._kept) or any(
                now is not then for now, then in zip(buffers, self._kept, strict=True)
            ):
                self._start(buffers)
                return
            for shadows, sources in self._groups:
                torch._foreach_copy_(shadows, sources)
            for place, shadow, source in self._large:
                if source._version != self._versions[place]:
                    shadow.copy_(source)
                    self._versions[place] = source._version

    def put_back(self) -> None:
        """The buffers have the values of the last ``keep`` again."""
        with torch.no_grad():
            for (owner, name), buffer, shadow in zip(self._places, self._kept, self._shadows, strict=True):
                owner[name] = buffer
                if not torch.equal(buffer, shadow):  # an expanded buffer cannot be written to, nor did the step write
                    buffer.copy_(shadow)
        for place, _, source in self._large:
            self._versions[place] = source._version

    def _start(self, buffers: Sequence[Tensor]) -> None:
        self._places = [(owner, name) for owner, name in self._owners if owner.get(name) is not None]
        self._kept = list(buffers)
        self._shadows = [buffer.detach().clone() for buffer in buffers]
        groups: dict[tuple[torch.dtype, torch.device], tuple[list[Tensor], list[Tensor]]] = {}
        self._large = []
        for place, (shadow, buffer) in enumerate(zip(self._shadows, self._kept, strict=True)):
            if buffer.numel() > SMALL_BUFFER:
                self._large.append((place, shadow, buffer))
            else:
                shadows, sources = groups.setdefault((buffer.dtype, buffer.device), ([], []))
                shadows.append(shadow)
                sources.append(buffer)
        self._versions = {place: source._version for place, _, source in self._large}
        self._groups = list(groups.values())


class ModuleMetrics:
    """The states of the torchmetrics objects that are part of a module.

    Args:
        module: The module. Metrics that are added to it later are not seen.
    """

    def __init__(self, module: nn.Module) -> None:
        self._metrics = [child for child in module.modules() if isinstance(child, Metric)]
        self._attributes: list[dict[str, Any]] = []
        self._states: list[dict[str, tuple[Any, Any]]] = []

    def keep(self) -> None:
        """Remember the states of this moment; those of metrics that hold nothing are not copied."""
        self._attributes = [dict(metric.__dict__) for metric in self._metrics]
        self._states = [_states(metric) if metric.update_called else {} for metric in self._metrics]

    def put_back(self) -> None:
        """The metrics have the states of the last ``keep`` again."""
        for metric, attributes, states in zip(self._metrics, self._attributes, self._states, strict=True):
            if not metric.update_called and not states:
                continue
            if not states:
                metric.reset()
            metric.__dict__.update({name: value for name, value in attributes.items() if name not in metric._defaults})
            for name, (state, copied) in states.items():
                # The same object gets its value back: metrics of a collection may share it.
                if isinstance(state, Tensor):
                    state.copy_(copied)
                else:
                    state[:] = copied
                setattr(metric, name, state)


def _states(metric: Metric) -> dict[str, tuple[Any, Any]]:
    return {
        name: (state, state.detach().clone() if isinstance(state, Tensor) else list(state))
        for name, state in metric.metric_state.items()
    }


class GradientsAside:
    """Gradients of an accumulation window, out of the way of the next backward pass.

    The backward pass of the next batch writes fresh gradients and adds nothing in place, so it can fail without harm.
    ``merge`` then adds the fresh ones to those set aside, which is the addition that autograd would have made.

    Args:
        parameters: The parameters that are optimized.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._aside: list[tuple[nn.Parameter, Tensor]] = []

    def take(self) -> None:
        """Set every gradient that exists aside."""
        self._aside = [
            (parameter, gradient) for parameter in self._parameters if (gradient := parameter.grad) is not None
        ]
        for parameter, _ in self._aside:
            parameter.grad = None

    def drop_fresh(self) -> None:
        """Forget what a backward pass wrote since ``take``."""
        for parameter in self._parameters:
            parameter.grad = None

    def merge(self) -> None:
        """Add the fresh gradients to those set aside and put the sum in place."""
        totals: list[Tensor] = []
        fresh: list[Tensor] = []
        with torch.no_grad():
            for parameter, total in self._aside:
                gradient = parameter.grad
                if gradient is None:
                    parameter.grad = total
                elif gradient.layout is torch.strided and total.layout is torch.strided:
                    totals.append(total)
                    fresh.append(gradient)
                    parameter.grad = total
                else:
                    parameter.grad = total + gradient
            if totals:
                torch._foreach_add_(totals, fresh)
        self._aside = []

    def put_back(self) -> None:
        """Undo ``take``: the fresh gradients are forgotten, those set aside are in place again."""
        self.drop_fresh()
        for parameter, total in self._aside:
            parameter.grad = total
        self._aside = []


class GradientsKept:
    """Gradients of an accumulation window that stay in place, with copies to go back to.

    For a backward pass in which DDP reduces every gradient as soon as it is there: it has to find the window's in it.
    As many bytes as ``GradientsAside`` needs with its fresh gradients, and a copy in place of its addition.

    Args:
        parameters: The parameters that are optimized.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._kept: list[tuple[nn.Parameter, Tensor, Tensor]] = []

    def take(self) -> None:
        """Copy every gradient that exists."""
        found = [(parameter, gradient) for parameter in self._parameters if (gradient := parameter.grad) is not None]
        if not found:
            return
        with torch.no_grad():
            if all(gradient.layout is torch.strided for _, gradient in found):
                copies = list(torch._foreach_mul([gradient for _, gradient in found], 1.0))
            else:
                copies = [gradient.clone() for _, gradient in found]
        self._kept = [(parameter, gradient, copy) for (parameter, gradient), copy in zip(found, copies, strict=True)]

    def put_back(self) -> None:
        """The gradients are what they were at ``take``."""
        for parameter in self._parameters:
            parameter.grad = None
        with torch.no_grad():
            for parameter, gradient, copy in self._kept:
                # Into the same tensor: DDP's gradients may be views of its buckets.
                parameter.grad = gradient.copy_(copy)
        self._kept = []

    def merge(self) -> None:
        """What the backward pass has added stays."""
        self._kept = []
