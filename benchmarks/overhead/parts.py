"""Splits the time inside our entry points further: what the probes take, by function."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from unittest.mock import patch

from benchmarks.overhead.stopwatch import Stopwatch

__all__ = ["parts_counted"]

_CALLERS = "lightning_automations.callbacks"
_PARTS = ("lightning_automations.probes", "lightning_automations.lightning_internals")


@contextmanager
def parts_counted(watch: Stopwatch) -> Iterator[None]:
    """Count the time inside probes and Lightning's internals under names of their own.

    Functions are wrapped where the callbacks have imported them, methods on their class.
    """
    with ExitStack() as patches:
        for module in _loaded(_CALLERS):
            for name, item in list(vars(module).items()):
                if isinstance(item, FunctionType) and item.__module__.startswith(_PARTS):
                    patches.enter_context(patch.object(module, name, watch.ours(item, name)))
        for kind in _classes():
            for name, item in list(vars(kind).items()):
                if isinstance(item, FunctionType) and (name == "__init__" or not name.startswith("_")):
                    label = kind.__name__ if name == "__init__" else f"{kind.__name__}.{name}"
                    patches.enter_context(patch.object(kind, name, watch.ours(item, label)))
        yield


def _classes() -> list[type]:
    items = (item for prefix in _PARTS for module in _loaded(prefix) for item in vars(module).values())
    return list(dict.fromkeys(item for item in items if isinstance(item, type) and item.__module__.startswith(_PARTS)))


def _loaded(prefix: str) -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name == prefix or name.startswith(f"{prefix}.")]
