"""How large the automations are after so many steps: they must not grow with the length of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor, nn

from benchmarks.overhead.workload import Window, Workload, automations, train

__all__ = ["deep_size", "memory_after", "saved_size"]

TINY = Workload(layers=1, width=1, samples=1, validation_interval=100)
"""Two parameters, and a validation every 100 steps, so that what the stopper keeps is measured too."""
READINGS, BETWEEN_READINGS = 20, 7
"""What waits for a decision comes and goes: the largest of so many readings counts, so many steps apart."""
_OTHERS = ("lightning", "pytorch_lightning", "torch", "torchmetrics", "benchmarks")


def memory_after(steps: Sequence[int]) -> list[dict[str, Any]]:
    """Train a tiny model once and measure the four automations on the way.

    Args:
        steps: After which of them to measure, ascending, 200 or more apart.

    Returns:
        For each: ``steps``; ``bytes`` of the Python objects and tensors that the automations hold; ``saved_bytes`` of
        their ``state_dict`` as JSON; ``retired``, those that had handed over by then.
    """
    callbacks = automations()
    largest: dict[int, dict[str, Any]] = {}

    def look(done: int) -> None:
        for mark in steps:
            if 0 <= mark - done <= READINGS * BETWEEN_READINGS and (mark - done) % BETWEEN_READINGS == 0:
                largest[mark] = _larger(largest.get(mark), {"steps": mark, **_reading(callbacks)})

    train(TINY, callbacks, Window(max(steps), each_step=look, warm_up=0))
    return [largest[mark] for mark in steps]


def deep_size(roots: Iterable[Any]) -> int:
    """Bytes of objects and of all that they hold, each once: containers, tensors, instances of our classes.

    What belongs to Lightning, to torch or to the user's module is passed over, as are classes and code.
    """
    seen: set[int] = set()
    waiting, total = list(roots), 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or _belongs_to_others(item):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, Tensor):
            total += item.nelement() * item.element_size()
        else:
            waiting.extend(_held(item))
    return total


def saved_size(callback: Callback) -> int:
    """Bytes of a callback's ``state_dict`` as JSON."""
    return len(json.dumps(callback.state_dict()))


def _reading(callbacks: Sequence[Callback]) -> dict[str, Any]:
    return {
        "bytes": deep_size(callbacks),
        "saved_bytes": sum(map(saved_size, callbacks)),
        "retired": [callback.state_key for callback in callbacks if callback.retired],  # type: ignore[attr-defined]
    }


def _larger(known: dict[str, Any] | None, reading: dict[str, Any]) -> dict[str, Any]:
    return reading if known is None or reading["bytes"] > known["bytes"] else known


def _belongs_to_others(item: Any) -> bool:
    if isinstance(item, (type, ModuleType, CodeType, nn.Module)):
        return True
    package = type(item).__module__.split(".")[0]
    return package in _OTHERS and not isinstance(item, Tensor)


def _held(item: Any) -> Iterable[Any]:
    if isinstance(item, Mapping):
        return [part for pair in item.items() for part in pair]
    if isinstance(item, MethodType):
        return [item.__self__]
    if isinstance(item, FunctionType):
        return [cell.cell_contents for cell in item.__closure__ or ()]
    if isinstance(item, (str, bytes, int, float, complex)) or item is None:
        return []
    held: list[Any] = list(item) if hasattr(item, "__len__") and hasattr(item, "__iter__") else []
    held.extend(vars(item).values() if hasattr(item, "__dict__") else [])
    slots = [name for kind in type(item).__mro__ for name in kind.__dict__.get("__slots__", ())]
    held.extend(getattr(item, name) for name in slots if isinstance(name, str) and hasattr(item, name))
    return held
