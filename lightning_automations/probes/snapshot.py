"""A training run's state in memory, to go back to after a divergence or a trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_automations.probes.copies import Copier, Node, same_kind, tensors_of_node
from lightning_automations.probes.snapshot_parts import (
    Layout,
    SnapshotParts,
    bytes_of,
    device_of,
    refusal,
    restore_scaler,
    scaler_state,
    size_of,
)

__all__ = ["Snapshot", "SnapshotMismatchError", "SnapshotParts", "refusal", "size_of"]


class SnapshotMismatchError(RuntimeError):
    """The run has lost or reshaped something since the snapshot was taken."""


class Snapshot:
    """Parameters, buffers, optimizer state and scalers of one moment, put back bit for bit.

    Learning rates and all else in ``param_groups``, schedulers, random generators and step counts of the trainer stay
    what they are. So do attributes that are no buffers, the states of torchmetrics for instance. Optimizers that keep
    their progress in ``param_groups`` (schedule-free ones, Prodigy) go back in part only.

    Taking it again uses the memory of the last time. Copies from a GPU go to pinned memory without waiting for the GPU.

    Args:
        on_host: Whether copies are kept in host memory; else beside the original. On a CPU run both are the same.

    Example:
        >>> from torch import nn
        >>> module = nn.Linear(2, 1)
        >>> parts = SnapshotParts([module], [torch.optim.SGD(module.parameters(), lr=0.1)])
        >>> snapshot = Snapshot()
        >>> snapshot.take(parts, step=0)
        >>> _ = nn.init.zeros_(module.weight)
        >>> snapshot.restore(parts)
        >>> bool(module.weight.any()), snapshot.step, snapshot.nbytes
        (True, 0, 12)
    """

    def __init__(self, *, on_host: bool = True) -> None:
        self._copier = Copier(on_host=on_host)
        self._step: int | None = None
        self._parameters: dict[str, Tensor] = {}
        self._buffers: dict[str, Node] = {}
        self._states: list[dict[str, Node]] = []
        self._scalers: list[Node] = []

    @property
    def step(self) -> int | None:
        """The step that was given when it was taken, or None: there is nothing to go back to."""
        return self._step

    @property
    def nbytes(self) -> int:
        """Bytes of the copies."""
        nodes = [*self._buffers.values(), *self._scalers, *(node for state in self._states for node in state.values())]
        return bytes_of([*self._parameters.values(), *(copy for node in nodes for copy in tensors_of_node(node))])

    def take(self, parts: SnapshotParts, *, step: int) -> None:
        """Copy the state of this moment over that of the last time.

        Args:
            parts: What to copy; ``refusal`` has nothing against it.
            step: The number of this moment, for the caller.

        Raises:
            TypeError: If an optimizer's state holds something that is no tensor, number, string or container of them.
        """
        layout, copier = Layout(parts), self._copier
        copier.forget()
        parameters = {
            name: copier.keep(parameter, ("tensor", self._parameters[name]) if name in self._parameters else None)
            for name, parameter in layout.parameters.items()
        }
        buffers = {
            name: copier.keep_value(owner._buffers[key], self._buffers.get(name), None)
            for name, (owner, key) in layout.buffers.items()
        }
        states = []
        for place, optimizer in enumerate(parts.optimizers):
            before = self._states[place] if place < len(self._states) else {}
            states.append(
                {
                    name: copier.keep_value(optimizer.state[key], before.get(name), device_of(key))
                    for key in optimizer.state
                    if (name := layout.name_of(key)) is not None
                }
            )
        scalers = [
            copier.keep_value(scaler_state(scaler), self._scalers[place] if place < len(self._scalers) else None, None)
            for place, scaler in enumerate(parts.scalers)
        ]
        copier.wait()  # a copy that is under way may still be read
        copier.run()
        self._parameters, self._buffers, self._states, self._scalers = parameters, buffers, states, scalers
        self._step = step

    def restore(self, parts: SnapshotParts) -> None:
        """Put everything back, in place, and drop all gradients.

        Parameters that are new since keep their values and lose their optimizer state.

        Raises:
            SnapshotMismatchError: If a parameter, an owner of a buffer, an optimizer or a scaler is gone, a parameter
                has another shape or type, or nothing was taken. Nothing was changed then.
        """
        layout, copier = Layout(parts), self._copier
        self._check(parts, layout)
        copier.wait()
        copier.forget()
        for name, copy in self._parameters.items():
            copier.write(layout.parameters[name], copy)
        for name, node in self._buffers.items():
            owner, key = layout.buffers[name]
            now = owner._buffers[key]
            if now is not None and node[0] == "tensor" and same_kind(now, node[1]):
                copier.write(now, node[1])  # wherever it is by now
            else:
                owner._buffers[key] = copier.value_of(node, None, torch.device("cpu"))
        for state, optimizer in zip(self._states, parts.optimizers, strict=True):
            self._restore_state(state, optimizer, layout)
        for node, scaler in zip(self._scalers, parts.scalers, strict=True):
            restore_scaler(copier, node, scaler)
        copier.run()
        copier.wait()
        for parameter in layout.parameters.values():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The snapshot for a checkpoint; it holds the copies themselves, which the next ``take`` overwrites."""
        self._copier.wait()
        return {
            "step": self._step,
            "parameters": dict(self._parameters),
            "buffers": dict(self._buffers),
            "states": [dict(state) for state in self._states],
            "scalers": list(self._scalers),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self._step = state["step"]
        self._parameters = dict(state["parameters"])
        self._buffers = dict(state["buffers"])
        self._states = [dict(each) for each in state["states"]]
        self._scalers = list(state["scalers"])

    def _check(self, parts: SnapshotParts, layout: Layout) -> None:
        if self._step is None:
            raise SnapshotMismatchError("There is no snapshot to restore: none was taken.")
        for name, copy in self._parameters.items():
            now = layout.parameters.get(name)
            if now is None:
                raise SnapshotMismatchError(f"Parameter {name} was there at step {self._step} and is gone.")
            if not same_kind(now, copy):
                then = f"{tuple(copy.shape)} of {copy.dtype}"
                raise SnapshotMismatchError(
                    f"Parameter {name} was {then} at step {self._step} and is {tuple(now.shape)} of {now.dtype}."
                )
        gone = next((name for name in self._buffers if name not in layout.buffers), None)
        if gone is not None:
            raise SnapshotMismatchError(f"Buffer {gone} was there at step {self._step} and is gone.")
        for what, then_many, now_many in (
            ("optimizers", len(self._states), len(parts.optimizers)),
            ("scalers", len(self._scalers), len(parts.scalers)),
        ):
            if then_many != now_many:
                raise SnapshotMismatchError(f"There were {then_many} {what} at step {self._step} and are {now_many}.")

    def _restore_state(self, state: Mapping[str, Node], optimizer: Optimizer, layout: Layout) -> None:
        keys: dict[str | None, Any] = {}
        for key in list(optimizer.state):
            name = layout.name_of(key)
            keys[name] = key
            if name not in state:
                del optimizer.state[key]
        for name, node in state.items():
            key = keys[name] if name in keys else layout.key_of(name)
            if key is not None:
                optimizer.state[key] = self._copier.value_of(node, optimizer.state.get(key), device_of(key))
