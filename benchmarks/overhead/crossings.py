"""Watches a run for calls that cross the border between our package and Lightning, in either direction."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Literal

import lightning.pytorch
import pytorch_lightning
import torch.optim

import lightning_automations

__all__ = ["Crossings", "Home", "home_of"]

Side = Literal["ours", "theirs", "neither"]


def _folder(package: ModuleType) -> str:
    return f"{Path(str(package.__file__)).parent}/"


_OURS = _folder(lightning_automations)
# Optimizers and schedulers are Lightning's to call: their steps are work of the plain run too.
_THEIRS = tuple(_folder(package) for package in (lightning.pytorch, pytorch_lightning, torch.optim))


@dataclass(frozen=True)
class Home:
    """Where a function is defined.

    Args:
        owner: Class or module.
        name: Attribute of the owner.
        inner: Code of a function that is made inside this one; None: this one is meant.
    """

    owner: Any
    name: str
    inner: CodeType | None = None

    def __str__(self) -> str:
        owner = self.owner.__qualname__ if isinstance(self.owner, type) else self.owner.__name__.rsplit(".", 1)[-1]
        return f"{owner}.{self.name}" + (f".{self.inner.co_name}" if self.inner is not None else "")


class Crossings:
    """Which of our functions others call, and which of Lightning's we call.

    What stands between the two on the stack (the standard library, torch, this folder) belongs to neither.

    Args:
        accounted: Says of a call of ours, while it begins, that it is accounted for.

    Attributes:
        entered: Calls of our functions from outside that are not accounted for.
        left: Calls of Lightning's functions from our own.
        theirs: All calls of Lightning's functions.
    """

    def __init__(self, *, accounted: Callable[[], bool] = lambda: False) -> None:
        self.entered: Counter[CodeType] = Counter()
        self.left: Counter[CodeType] = Counter()
        self.theirs: Counter[CodeType] = Counter()
        self._accounted = accounted
        self._sides: dict[str, Side] = {}

    def start(self) -> None:
        """Watch this thread from now on."""
        sys.setprofile(self._see)

    def stop(self) -> None:
        """Watch no longer."""
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        side = self._side(frame.f_code) if event == "call" else "neither"
        if side == "ours":
            if self._caller(frame) != "ours" and not self._accounted():
                self.entered[frame.f_code] += 1
        elif side == "theirs":
            self.theirs[frame.f_code] += 1
            if self._caller(frame) == "ours":
                self.left[frame.f_code] += 1

    def _caller(self, frame: FrameType) -> Side:
        caller = frame.f_back
        while caller is not None:
            side = self._side(caller.f_code)
            if side != "neither":
                return side
            caller = caller.f_back
        return "neither"

    def _side(self, code: CodeType) -> Side:
        file = code.co_filename
        side = self._sides.get(file)
        if side is None:
            side = "ours" if file.startswith(_OURS) else "theirs" if file.startswith(_THEIRS) else "neither"
            self._sides[file] = side
        return side


def home_of(code: CodeType) -> Home:
    """Where the function with this code is defined.

    Raises:
        LookupError: If no loaded module holds it.
    """
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module.__dict__.get("__file__") == code.co_filename:
            for owner, name, function in _functions(module):
                if function.__code__ is code:
                    return Home(owner, name)
                if code in _inner_codes(function.__code__):
                    return Home(owner, name, code)
    raise LookupError(f"{code.co_name} of {code.co_filename}, line {code.co_firstlineno}, is in no module")


def _functions(module: ModuleType) -> Iterator[tuple[Any, str, FunctionType]]:
    owners = [module, *(item for item in vars(module).values() if isinstance(item, type))]
    for owner in owners:
        if owner is module or owner.__module__ == module.__name__:
            for name, item in list(vars(owner).items()):
                function = _unwrapped(item)
                if isinstance(function, FunctionType):
                    yield owner, name, function


def _unwrapped(item: Any) -> Any:
    while True:
        if isinstance(item, property):
            item = item.fget
        elif isinstance(item, (staticmethod, classmethod)) or (
            isinstance(item, FunctionType) and "__wrapped__" in vars(item)
        ):
            item = item.__wrapped__
        else:
            return item


def _inner_codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner_codes(constant)
