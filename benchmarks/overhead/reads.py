"""Counts what makes the host wait for the device: numbers and tensors that are read back.

Two nets, because each has holes. A dispatch mode sees what torch does below its Python methods, but on the CPU ``cpu``,
``numpy``, ``to`` and ``tolist`` do nothing there that it could see. Patched methods see those. What happens inside a
patched method is the same read and is not counted again.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["ReadCounter", "counted_reads"]

READING_METHODS = (
    "item", "tolist", "cpu", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "__complex__",
)  # fmt: skip
_WAITING_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Of operations whose result on the host depends on values: ``_local_scalar_dense``, ``equal``, ``nonzero``, ..."""
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class ReadCounter:
    """Counts of blocking reads by how they were made.

    Attributes:
        counts: Reads by name of the method or operation.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._depth = 0

    def reset(self) -> None:
        """Forget what was counted."""
        self.counts.clear()

    def saw(self, name: str) -> None:
        """Count one read, unless it is part of one that is counted."""
        if self._depth == 0:
            self.counts[name] += 1

    @contextmanager
    def one_read(self, name: str) -> Iterator[None]:
        """Count one read, and none of those inside."""
        self.saw(name)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


class _Operations(TorchDispatchMode):
    def __init__(self, counter: ReadCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(tag in _WAITING_TAGS for tag in func.tags) or (func in _COPIES and _copies_to_host(func, args, kwargs)):
            self._counter.saw(func.overloadpacket.__name__)
        return func(*args, **kwargs)


@contextmanager
def counted_reads() -> Iterator[ReadCounter]:
    """Count every blocking read of this thread.

    A ``to`` counts when it leads to the host from elsewhere, or names the host as a string: ``to("cpu")`` has nothing
    to do on a CPU, and would wait for a GPU. To another type, or to the device of another tensor, it cannot block.
    """
    counter = ReadCounter()
    with ExitStack() as stack:
        for name in READING_METHODS:
            stack.enter_context(patch.object(Tensor, name, _counting(counter, name, lambda *_, **__: True)))
        stack.enter_context(patch.object(Tensor, "to", _counting(counter, "to", _leads_to_host)))
        stack.enter_context(_Operations(counter))
        yield counter


def _counting(counter: ReadCounter, name: str, reads: Callable[..., bool]) -> Callable[..., Any]:
    original = getattr(Tensor, name)

    @functools.wraps(original)
    def method(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not reads(tensor, *args, **kwargs):
            return original(tensor, *args, **kwargs)
        with counter.one_read(name):
            return original(tensor, *args, **kwargs)

    return method


def _leads_to_host(tensor: Tensor, *args: Any, **kwargs: Any) -> bool:
    target = kwargs.get("device", args[0] if args else None)
    if isinstance(target, Tensor):
        target = target.device
    if kwargs.get("non_blocking", False) or not isinstance(target, (str, torch.device)):
        return False
    return torch.device(target).type == "cpu" and (isinstance(target, str) or tensor.device.type != "cpu")


def _copies_to_host(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if kwargs.get("non_blocking", False):
        return False
    if func is torch.ops.aten.copy_.default:
        target, source = args[0].device, args[1].device
        if len(args) > 2 and args[2]:
            return False
    else:
        source = args[0].device
        target = kwargs.get("device") or source
    return target.type == "cpu" and source.type not in ("cpu", "meta")
