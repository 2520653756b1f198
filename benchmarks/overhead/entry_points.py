"""Finds every function of ours that Lightning calls in a step, and puts a stopwatch around it."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any
from unittest.mock import patch

import pytorch_lightning
from lightning.pytorch import Callback, LightningModule

from benchmarks.overhead.crossings import Crossings, Home, home_of
from benchmarks.overhead.stopwatch import Stopwatch
from benchmarks.overhead.workload import WARM_UP_STEPS, Window, Workload, train

__all__ = ["Border", "border", "counted", "overridden_hooks", "own_seconds", "uncounted"]

_EMPTY_CALLBACKS = (Callback, pytorch_lightning.Callback)
DISCOVERY_STEPS = 40
DISCOVERY = Workload(layers=2, width=8, samples=4, validation_interval=10)


@dataclass(frozen=True)
class Border:
    """Where Lightning calls us, and where we call what Lightning would have called itself.

    Args:
        entries: Functions of ours that are called from outside.
        left_out: Functions of Lightning's that run just as often without us, now called by us: forward and backward
            pass among them. Their time is not ours.
    """

    entries: tuple[Home, ...]
    left_out: tuple[Home, ...]


def overridden_hooks(callback: Callback) -> list[Home]:
    """Every hook of Lightning's that a callback does not leave as empty as ``Callback`` has it."""
    names = [name for name in dir(Callback) if not name.startswith("_") and callable(vars(Callback).get(name))]
    owners = [(name, next(kind for kind in type(callback).__mro__ if name in vars(kind))) for name in names]
    return [Home(owner, name) for name, owner in owners if owner not in _EMPTY_CALLBACKS]


def border(
    make_callbacks: Callable[[], Sequence[Callback]], *, network: Callable[[Workload], LightningModule] | None = None
) -> Border:
    """Find the border in two short runs of a small network, one with and one without the callbacks.

    Args:
        make_callbacks: Makes the callbacks.
        network: Makes the module; None: linear layers under AdamW.
    """
    plain, ours = Crossings(), Crossings()
    callbacks = make_callbacks()
    for seen, given in ((plain, []), (ours, callbacks)):
        window = Window(DISCOVERY_STEPS, at_start=seen.start, at_end=seen.stop)
        train(DISCOVERY, given, window, network=network)
    hooks = [home for callback in callbacks for home in overridden_hooks(callback)]
    entries = dict.fromkeys([*hooks, *(home_of(code) for code in ours.entered)])
    taken_over = [code for code in ours.left if ours.theirs[code] == plain.theirs[code]]
    return Border(tuple(entries), tuple(home_of(code) for code in taken_over))


@contextmanager
def counted(watch: Stopwatch, at: Border) -> Iterator[Callable[[], None]]:
    """Count the time on our side of the border.

    Yields:
        A function to call when training has begun: it finds what was planted in Lightning's objects by then.
    """
    with ExitStack() as patches:
        for home in at.entries:
            if home.inner is None:
                patches.enter_context(_replaced(home, functools.partial(watch.ours, name=_label(home))))
        for home in at.left_out:
            wrap = watch.lightnings if home.inner is None else functools.partial(_result_left_out, watch)
            patches.enter_context(_replaced(home, wrap))
        yield lambda: _count_planted(watch, [home for home in at.entries if home.inner is not None])


def own_seconds(
    callbacks: Sequence[Callback],
    workload: Workload,
    at: Border,
    *,
    steps: int,
    watch: Stopwatch,
    warm_up: int = WARM_UP_STEPS,
) -> dict[str, float]:
    """Train, and return the seconds per step inside each of our entry points; ``watch.calls`` says how often.

    Args:
        callbacks: Of ours.
        workload: Network and batches.
        at: The border.
        steps: Steps of the window.
        watch: Counts.
        warm_up: Steps before it.
    """
    kept: dict[str, float] = {}
    with counted(watch, at) as count_planted:

        def begin() -> None:
            count_planted()
            watch.reset()

        window = Window(steps, at_start=begin, at_end=lambda: kept.update(watch.seconds), warm_up=warm_up)
        train(workload, callbacks, window)
    return {name: seconds / steps for name, seconds in kept.items()}


def uncounted(
    callbacks: Sequence[Callback], at: Border, *, network: Callable[[Workload], LightningModule] | None = None
) -> list[str]:
    """What of ours runs in a step without being counted: must be nothing."""
    watch = Stopwatch()
    seen = Crossings(accounted=lambda: watch.runs)
    with counted(watch, at) as count_planted:

        def begin() -> None:
            count_planted()
            seen.start()

        train(DISCOVERY, callbacks, Window(DISCOVERY_STEPS, at_start=begin, at_end=seen.stop), network=network)
    return sorted({str(home_of(code)) for code in seen.entered})


def _label(home: Home) -> str:
    return home.name if isinstance(home.owner, type) and issubclass(home.owner, _EMPTY_CALLBACKS) else str(home)


@contextmanager
def _replaced(home: Home, wrap: Callable[[Callable[..., Any]], Any]) -> Iterator[None]:
    item = vars(home.owner)[home.name]
    if isinstance(item, property):
        wrapped: Any = property(wrap(item.fget), item.fset)  # type: ignore[arg-type]
    elif isinstance(item, (staticmethod, classmethod)):
        wrapped = type(item)(wrap(item.__func__))
    else:
        wrapped = wrap(item)
    with patch.object(home.owner, home.name, wrapped):
        yield


def _result_left_out(watch: Stopwatch, maker: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes another one, whose time is left out."""

    @functools.wraps(maker)
    def make(*args: Any, **kwargs: Any) -> Any:
        made = maker(*args, **kwargs)
        return watch.lightnings(made) if callable(made) else made

    return make


def _count_planted(watch: Stopwatch, homes: Iterable[Home]) -> None:
    """Functions that we make during a fit and put in place of Lightning's: wrapped where they are found."""
    labels = {home.inner: _label(home) for home in homes}
    if not labels:
        return
    found = [item for item in gc.get_referrers(*labels) if isinstance(item, FunctionType) and item.__code__ in labels]
    wrapped = {id(function): watch.ours(function, labels[function.__code__]) for function in found}
    for holder in gc.get_referrers(*found):
        _put_in_place(holder, wrapped)


def _put_in_place(holder: Any, wrapped: Mapping[int, Callable[..., Any]]) -> None:
    """Replace functions by wrapped ones, given by identity."""
    values = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
    for name, value in list(values.items()):
        if id(value) not in wrapped:
            continue
        kind = _class_with(values, name) if "__module__" in values else None
        if kind is not None:
            # The dict of a class must not be written to: lookups of its attributes are cached.
            setattr(kind, name, wrapped[id(value)])
        elif isinstance(holder, dict):
            holder[name] = wrapped[id(value)]
        else:
            setattr(holder, name, wrapped[id(value)])


def _class_with(values: Mapping[str, Any], name: str) -> type | None:
    """The class to which this dict belongs."""
    kinds = (item for item in gc.get_referrers(values) if isinstance(item, type))
    return next((kind for kind in kinds if vars(kind).get(name) is values[name]), None)
