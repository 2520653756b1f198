"""What a snapshot covers: names for all of it, its size, and why it cannot be had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_automations.probes.copies import Copier, Node, tensors_in, unknown_in
from lightning_automations.probes.gradient_norm import is_sharded

__all__ = [
    "Layout",
    "SnapshotParts",
    "bytes_of",
    "device_of",
    "refusal",
    "restore_scaler",
    "scaler_state",
    "size_of",
]


@dataclass
class SnapshotParts:
    """What a snapshot covers.

    Args:
        modules: The module, and averages of it. Their order is part of the names in a snapshot: keep it.
        optimizers: Those that train it, in the same order each time.
        scalers: The gradient scalers of mixed precision.
    """

    modules: Sequence[nn.Module]
    optimizers: Sequence[Optimizer]
    scalers: Sequence[torch.amp.GradScaler] = ()


class Layout:
    """The names of everything that parts hold; what is shared has one name, its first."""

    def __init__(self, parts: SnapshotParts) -> None:
        self.parameters: dict[str, Tensor] = {}
        self.buffers: dict[str, tuple[nn.Module, str]] = {}
        self._names: dict[Tensor, str] = {}
        modules: set[nn.Module] = set()
        for place, root in enumerate(parts.modules):
            for name, module in root.named_modules(memo=modules, prefix=f"modules[{place}]"):
                for key, parameter in module._parameters.items():
                    if parameter is not None:
                        self._add(f"{name}.{key}", parameter)
                self.buffers.update({f"{name}.{key}": (module, key) for key in module._buffers})
        for place, optimizer in enumerate(parts.optimizers):
            for number, group in enumerate(optimizer.param_groups):
                for index, parameter in enumerate(group["params"]):
                    self._add(f"optimizers[{place}].param_groups[{number}][{index}]", parameter)

    def name_of(self, key: Any) -> str | None:
        """The name of a key of an optimizer's state: a parameter, or a string of the optimizer's own."""
        return self._names.get(key) if isinstance(key, Tensor) else f"key {key}"

    def key_of(self, name: str) -> Any:
        """The key of a name, or None where it is none of these parts'."""
        return name.removeprefix("key ") if name.startswith("key ") else self.parameters.get(name)

    def _add(self, name: str, parameter: Tensor) -> None:
        if parameter not in self._names:
            self._names[parameter] = name
            self.parameters[name] = parameter


def refusal(parts: SnapshotParts) -> str | None:
    """Why no snapshot can be had of these parts, in one sentence, or None."""
    layout = Layout(parts)
    buffers = {
        name: buffer for name, (owner, key) in layout.buffers.items() if (buffer := owner._buffers[key]) is not None
    }
    for name, tensor in [*layout.parameters.items(), *buffers.items()]:
        if (reason := _refusal_of(tensor)) is not None:
            return f"{name} {reason}."
    for root in parts.modules:
        if any(type(module).__name__ == "FullyShardedDataParallel" for module in root.modules()):
            return f"{type(root).__name__} is sharded by FullyShardedDataParallel."
    for optimizer in parts.optimizers:
        for value in optimizer.state.values():
            if (kind := unknown_in(value)) is not None:
                return f"The state of {type(optimizer).__name__} holds a {kind}."
            if (reason := next(filter(None, map(_refusal_of, tensors_in(value))), None)) is not None:
                return f"A tensor in the state of {type(optimizer).__name__} {reason}."
    return None


def size_of(parts: SnapshotParts) -> int:
    """Bytes that a snapshot would take now; optimizers such as Adam make their state in their first step only."""
    return bytes_of(_tensors(parts))


def _tensors(parts: SnapshotParts) -> Iterator[Tensor]:
    layout = Layout(parts)
    yield from layout.parameters.values()
    yield from tensors_in([owner._buffers[key] for owner, key in layout.buffers.values()])
    for optimizer in parts.optimizers:
        yield from tensors_in([value for key, value in optimizer.state.items() if layout.name_of(key) is not None])
    yield from tensors_in([scaler_state(scaler) for scaler in parts.scalers])


def bytes_of(tensors: Iterator[Tensor] | Sequence[Tensor]) -> int:
    """Bytes of the values of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def device_of(key: Any) -> torch.device:
    """The device of a key of an optimizer's state, the host for one that is no parameter."""
    return key.device if isinstance(key, Tensor) else torch.device("cpu")


def scaler_state(scaler: torch.amp.GradScaler) -> dict[str, Any]:
    """Scale and growth tracker; its own ``state_dict`` would wait for the GPU. Before the first use there is none."""
    if not scaler.is_enabled():
        return {}
    return {
        "scale": scaler._scale,
        "tracker": scaler._growth_tracker,
        "first_scale": scaler._init_scale,
        "first_tracker": scaler._init_growth_tracker,
    }


def restore_scaler(copier: Copier, node: Node, scaler: torch.amp.GradScaler) -> None:
    """Give a scaler its scale and growth tracker of then, in place where it has begun."""
    then = dict(node[1])
    if not then:
        return
    if then["scale"][0] == "tensor":
        scale, tracker = then["scale"][1], then["tracker"][1]
    else:
        scale, tracker = torch.tensor(then["first_scale"][1]), torch.tensor(then["first_tracker"][1], dtype=torch.int32)
    if scaler._scale is None or scaler._growth_tracker is None:
        scaler._init_scale, scaler._init_growth_tracker = float(scale), int(tracker)
    else:
        copier.write(scaler._scale, scale)
        copier.write(scaler._growth_tracker, tracker)


def _refusal_of(tensor: Tensor) -> str | None:
    """What is wrong with a tensor, as the end of a sentence that begins with its name."""
    if is_lazy(tensor):
        return "has no shape yet"
    if is_sharded(tensor) or hasattr(type(tensor), "__tensor_flatten__"):
        return "is spread over ranks or made of several tensors, which no snapshot covers yet"
    if tensor.is_meta:
        return "has no values yet (meta device)"
    if tensor.layout is not torch.strided:
        return "is sparse"
    if tensor.is_nested or tensor.is_quantized:
        return "is nested or quantized"
    return None
