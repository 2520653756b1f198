"""Base classes that both Lightning packages accept.

``lightning.pytorch`` and ``pytorch_lightning`` hold the same code twice, and each Trainer accepts only its own classes.
Half of the packages built on Lightning use the second, so every class of ours is a child of both where both are
installed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lightning.pytorch.callbacks import Callback, EarlyStopping

__all__ = ["CALLBACK_BASES", "EARLY_STOPPING_BASES"]


class _InitStopsHere:
    """Keeps ``lightning``'s EarlyStopping from handing its arguments on to its twin."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass


def _twin(name: str) -> tuple[type, ...]:
    if find_spec("pytorch_lightning") is None:
        return ()
    twin: type = getattr(import_module("pytorch_lightning.callbacks"), name)
    return (twin,)


CALLBACK_BASES: tuple[type, ...] = (Callback, *_twin("Callback"))
EARLY_STOPPING_BASES: tuple[type, ...] = (EarlyStopping, _InitStopsHere, *_twin("EarlyStopping"))
