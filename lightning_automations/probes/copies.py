"""Copies of tensors and of nested values that hold tensors, kept in memory that is used again.

A nested value is held as a *node*, a tuple that says what it is: ``("tensor", copy, place)``, ``("dict", pairs)``,
``("list", nodes)``, ``("tuple", nodes)`` or ``("plain", value)``. Nodes are made of what ``torch.load`` takes with
``weights_only=True``, so a tree of them goes into a checkpoint as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["Copier", "Node", "tensors_in", "tensors_of_node", "unknown_in"]

Node: TypeAlias = tuple[Any, ...]
PLAIN = frozenset({type(None), bool, int, float, complex, str})
"""Exactly these: a NumPy number is a float, and does not load with ``weights_only=True``."""


class Copier:
    """Collects what is to be copied and copies it in one go.

    Nothing is written before ``run``: an error on the way leaves all values as they were.

    Args:
        on_host: Whether copies of what lies on a device are kept in host memory.
    """

    def __init__(self, *, on_host: bool) -> None:
        self._on_host = on_host
        self._pairs: dict[tuple[Any, ...], tuple[list[Tensor], list[Tensor]]] = {}
        self._written: set[int] = set()
        self._events: list[Any] = []

    def keep(self, source: Tensor, earlier: Node | None) -> Tensor:
        """A copy of a tensor, in the memory of an earlier node where that fits."""
        wanted = torch.device("cpu") if self._on_host else source.device
        copy = earlier[1] if earlier is not None and earlier[0] == "tensor" else None
        if copy is None or not same_kind(copy, source) or copy.device != wanted:
            copy = torch.empty_like(
                source.detach(), device=wanted, pin_memory=wanted.type == "cpu" and source.device.type == "cuda"
            )
        self._add(copy, source)
        return copy

    def keep_value(self, value: Any, earlier: Node | None, beside: torch.device | None) -> Node:
        """A node with copies of all tensors of a nested value.

        Args:
            value: Tensors, numbers, strings, None, and dicts, lists and tuples of them.
            earlier: The node of the last time, whose memory is used again.
            beside: The device of the parameter that it belongs to; a tensor that lies elsewhere goes back there.

        Raises:
            TypeError: If the value holds anything else.
        """
        if isinstance(value, Tensor):
            return "tensor", self.keep(value, earlier), None if value.device == beside else str(value.device)
        known = earlier if earlier is not None and earlier[0] == _kind(value) else (None, [])
        if isinstance(value, dict):
            if (kind := unknown_in(list(value))) is not None:
                raise TypeError(f"Expected keys that are numbers or strings, but got {kind}.")
            before = dict(known[1])
            return "dict", [(key, self.keep_value(item, before.get(key), beside)) for key, item in value.items()]
        if isinstance(value, list) or type(value) is tuple:
            items = [
                self.keep_value(item, known[1][place] if place < len(known[1]) else None, beside)
                for place, item in enumerate(value)
            ]
            return _kind(value), items
        if type(value) in PLAIN:
            return "plain", value
        raise TypeError(f"Expected tensors, numbers and containers of them, but got {type(value).__name__}.")

    def write(self, target: Tensor, copy: Tensor) -> None:
        """Let a tensor have the values of its copy."""
        self._written.add(target.data_ptr())
        # What is expanded is written to where its memory is: once.
        for dimension, (size, stride) in enumerate(zip(target.shape, target.stride(), strict=True)):
            if size > 1 and stride == 0:
                target, copy = target.narrow(dimension, 0, 1), copy.narrow(dimension, 0, 1)
        self._add(target, copy)

    def value_of(self, node: Node, current: Any, beside: torch.device) -> Any:
        """The value of a node: the current objects with the values of then where that can be, else new ones."""
        kind, held = node[:2]
        if kind == "tensor":
            return self._tensor(held, current, beside if node[2] is None else torch.device(node[2]))
        if kind == "dict":
            values = current if isinstance(current, dict) else {}
            items = {key: self.value_of(item, values.get(key), beside) for key, item in held}
            values.clear()
            values.update(items)
            return values
        if kind in {"list", "tuple"}:
            had = list(current) if isinstance(current, list | tuple) else []
            entries = [
                self.value_of(item, had[place] if place < len(had) else None, beside) for place, item in enumerate(held)
            ]
            if kind == "list" and isinstance(current, list):
                current[:] = entries
                return current
            return entries if kind == "list" else tuple(entries)
        return held

    def run(self) -> None:
        """Copy all that was collected; copies to the host may still be under way afterwards."""
        with torch.no_grad():
            for key, (targets, sources) in self._pairs.items():
                # Other devices than CUDA return before the host may read, and have no event that says when.
                asynchronous = any(device.type == "cuda" for device in key[:2])
                torch._foreach_copy_(targets, sources, non_blocking=asynchronous)
        # A copy between a device and pinned memory is done when its stream says so.
        for device in {device for key in self._pairs for device in key[:2] if device.type == "cuda"}:
            self._events.append(torch.cuda.current_stream(device).record_event())
        self._pairs = {}
        self._written = set()

    def wait(self) -> None:
        """Return once every copy is there."""
        for event in self._events:
            event.synchronize()
        self._events = []

    def forget(self) -> None:
        """Drop what was collected and not copied."""
        self._pairs = {}
        self._written = set()

    def _add(self, target: Tensor, source: Tensor) -> None:
        key = (target.device, source.device, target.dtype)
        targets, sources = self._pairs.setdefault(key, ([], []))
        targets.append(target.detach())
        sources.append(source.detach())

    def _tensor(self, copy: Tensor, current: Any, device: torch.device) -> Tensor:
        # What shares its memory with something that was written already, a parameter for instance, gets its own.
        fits = isinstance(current, Tensor) and same_kind(current, copy) and current.device == device
        if not fits or current.data_ptr() in self._written:
            current = torch.empty_like(copy, device=device)
        self.write(current, copy)
        return current  # type: ignore[no-any-return]


def same_kind(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and type."""
    return one.shape == other.shape and one.dtype == other.dtype


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of a nested value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def tensors_of_node(node: Node) -> Iterator[Tensor]:
    """All copies of a node."""
    kind, held = node[:2]
    if kind == "tensor":
        yield held
    elif kind == "dict":
        for _, item in held:
            yield from tensors_of_node(item)
    elif kind in {"list", "tuple"}:
        for item in held:
            yield from tensors_of_node(item)


def unknown_in(value: Any) -> str | None:
    """The name of a type in a nested value of which no copy can be had, or None."""
    if isinstance(value, Tensor) or type(value) in PLAIN:
        return None
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list) or type(value) is tuple:
        return next((kind for item in value if (kind := unknown_in(item))), None)
    return type(value).__name__


def _kind(value: Any) -> str:
    for kind, name in ((dict, "dict"), (list, "list"), (tuple, "tuple")):
        if isinstance(value, kind):
            return name
    return "plain"
