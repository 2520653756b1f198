"""The only writer of the learning rate: scheduled rate x product of named factors.

Schedulers compute the next rate from the one they find, so they must find the scheduled one; everybody else (the
optimizer, monitors, checkpoints) must find the effective one. Of four ways tried over all schedulers of torch, one is
right for both: the class of each scheduler of the trainer is replaced by a subclass whose ``step`` puts the scheduled
rates back, steps, and multiplies again. Wrapping ``step`` on the instance instead breaks checkpoints.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

__all__ = ["RateWriter"]

Rate = float | Tensor


@dataclass
class _Group:
    """One parameter group: what the schedule says, and what was written in its place."""

    scheduled: Rate
    written: Rate
    holder: Tensor | None = None
    version: int = 0
    """The tensor that was written into and its count of writes: unchanged, nobody has to look at its value."""


class RateWriter:
    """Writes ``group["lr"]`` of every optimizer as scheduled rate x product of named factors.

    Until the first factor that is not 1 it touches nothing. A rate that is found different from the one it wrote is the
    new scheduled rate: a scheduler that it does not know, a callback or the module set it. A group that was added
    during training enters with its own rate as the scheduled one.

    Args:
        trainer: The trainer, whose optimizers and schedulers exist.

    Example:
        >>> writer = RateWriter(trainer)  # doctest: +SKIP
        >>> writer.set_factor("learning_rate", 0.5)  # doctest: +SKIP
        >>> writer.scheduled, writer.effective  # doctest: +SKIP
        ([[0.1]], [[0.05]])
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._factors: dict[str, float] = {}
        self._groups: list[list[_Group]] = []
        self._replaced: list[list[float]] = []
        self._released: set[int] = set()
        self._saved: dict[str, Any] = {}
        self._wrapped: dict[int, tuple[Any, type]] = {}
        self._attached = False
        self._inside = False

    # What automations call -------------------------------------------------------------------------------------------

    def set_factor(self, name: str, factor: float) -> None:
        """Set one automation's factor and write the rates.

        Args:
            name: The automation.
            factor: Above 0 and finite; 1 leaves the scheduled rate as it is.

        Raises:
            ValueError: If the factor is not a finite number above 0.
        """
        if not (math.isfinite(factor) and factor > 0):
            raise ValueError(f"expected a finite factor above 0, got {factor}")
        self._factors[name] = factor
        if self._attached:
            self._write_all()
        elif self._saved or factor != 1.0:
            self.attach()

    def replace_schedule(self, rates: Sequence[Sequence[float]]) -> None:
        """Let these rates take the place of the scheduled ones, whose schedulers go on without effect.

        Where somebody else sets a rate of an optimizer from then on, or gives it another scheduler, the optimizer is
        left to them: these rates and all that follow have no effect on it any more, see ``released``.

        Args:
            rates: One rate for every group of every optimizer; empty: the schedule holds again.
        """
        self._attached = True
        # First with the rates that held until now: what was changed before the first of these is a scheduled rate.
        self._write_all()
        self._replaced = [list(group_rates) for group_rates in rates]
        self._write_all()

    def attach(self) -> None:
        """Take over the rates; called by the first factor that is not 1."""
        if not self._attached:
            self._attached = True
            self._write_all()

    def refresh(self) -> None:
        """Take up rates, groups and schedulers that others have set since the last batch."""
        if not self._attached:
            return
        self._wrap_schedulers()
        for index in range(len(self._trainer.optimizers)):
            if self._take_up(index):
                self._write(index)

    def detach(self) -> None:
        """Give the schedulers back. The optimizers keep their effective rates."""
        self._saved = self.state_dict()
        self._attached = False
        self._groups.clear()
        self._replaced.clear()
        for scheduler, original in self._wrapped.values():
            scheduler.__class__ = original
        self._wrapped.clear()

    # What is read ----------------------------------------------------------------------------------------------------

    @property
    def effective(self) -> list[list[float]]:
        """The rate of every group of every optimizer as the optimizer uses it."""
        return [[float(group["lr"]) for group in optimizer.param_groups] for optimizer in self._trainer.optimizers]

    @property
    def scheduled(self) -> list[list[float]]:
        """The same as the schedule says it, without factors."""
        if not self._attached:
            return self.effective
        return [[float(group.scheduled) for group in groups] for groups in self._groups]

    @property
    def released(self) -> tuple[int, ...]:
        """The optimizers whose rate somebody else has set while other rates took the place of the scheduled ones."""
        return tuple(sorted(self._released))

    def state_dict(self) -> dict[str, Any]:
        """The factors, the scheduled rates, and the rates that the optimizers' own state holds, as JSON-able values."""
        if not self._attached:
            return self._saved
        for index in range(len(self._trainer.optimizers)):
            self._take_up(index)
        rates = {"scheduled": self.scheduled, "written": self.effective}
        return {"factors": dict(self._factors), **rates, "released": list(self.released)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave, before anything is attached.

        A scheduled rate is taken from it where the optimizer holds the rate that was written then; elsewhere the
        optimizer was given another rate since, and that one is the scheduled rate.
        """
        self._saved = dict(state)
        self._factors.update(state.get("factors", {}))
        self._released.update(state.get("released", ()))

    # Inside ----------------------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        self._wrap_schedulers()
        for index in range(len(self._trainer.optimizers)):
            self._take_up(index)
            self._write(index)

    def _wrap_schedulers(self) -> None:
        for config in self._trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            if id(scheduler) not in self._wrapped:
                self._wrapped[id(scheduler)] = (scheduler, type(scheduler))
                scheduler.__class__ = _wrapped_class(type(scheduler), self._stepped)
                # Not there when the rates were replaced: whoever has put it in since wants it to be followed.
                self._release(self._index_of(scheduler.optimizer))

    def _stepped(self, optimizer: Any, step: Callable[[], Any]) -> Any:
        """Let a scheduler step on the scheduled rates."""
        index = self._index_of(optimizer)
        if self._inside or index is None:
            return step()
        self._inside = True
        self._take_up(index)
        for group, known in zip(optimizer.param_groups, self._groups[index], strict=True):
            _put(group, known.scheduled)
        try:
            return step()
        finally:
            self._inside = False
            for group, known in zip(optimizer.param_groups, self._groups[index], strict=True):
                known.scheduled = _copied(group["lr"])
            self._write(index)

    def _index_of(self, optimizer: Any) -> int | None:
        return next((index for index, known in enumerate(self._trainer.optimizers) if known is optimizer), None)

    def _replaced_of(self, index: int | None) -> list[float]:
        """The rates that take the place of the scheduled ones of an optimizer; empty: none do."""
        if index is None or index in self._released or index >= len(self._replaced):
            return []
        return self._replaced[index]

    def _release(self, index: int | None) -> None:
        """Leave an optimizer to somebody else; groups that they did not touch keep their rate, it does not jump."""
        replaced = self._replaced_of(index)
        if index is not None and replaced:
            for known, rate in zip(self._groups[index], replaced, strict=False):
                known.scheduled = rate
            self._released.add(index)

    def _take_up(self, index: int) -> bool:
        """Make every rate that others have set the scheduled one; whether there was any."""
        while len(self._groups) <= index:
            self._groups.append([])
        known = self._groups[index]
        groups = self._trainer.optimizers[index].param_groups
        del known[len(groups) :]
        changed = False
        for position, group in enumerate(groups):
            if position == len(known):
                known.append(_Group(scheduled=self._first_scheduled(index, position, group), written=math.nan))
                changed = True
            elif _differs(group["lr"], known[position]):
                if position < len(self._replaced_of(index)):
                    self._release(index)
                known[position].scheduled = _copied(group["lr"])
                changed = True
        return changed

    def _first_scheduled(self, index: int, position: int, group: Mapping[str, Any]) -> Rate:
        scheduled, written = self._saved.get("scheduled", []), self._saved.get("written", [])
        is_saved = index < len(written) and position < len(written[index])
        if is_saved and float(group["lr"]) == written[index][position]:
            return float(scheduled[index][position])
        return _copied(group["lr"])

    def _write(self, index: int) -> None:
        factor = math.prod(self._factors.values())
        replaced = self._replaced_of(index)
        groups = self._trainer.optimizers[index].param_groups
        for position, (group, known) in enumerate(zip(groups, self._groups[index], strict=True)):
            rate = replaced[position] if position < len(replaced) else known.scheduled
            _put(group, rate if factor == 1.0 else rate * factor)
            known.written = _copied(group["lr"])
            known.holder = group["lr"] if isinstance(group["lr"], Tensor) else None
            known.version = known.holder._version if known.holder is not None else 0


def _wrapped_class(original: Any, stepped: Callable[[Any, Callable[[], Any]], Any]) -> type:
    """A subclass of a scheduler's class that steps through the writer and otherwise is its parent, name included."""

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        return stepped(self.optimizer, functools.partial(original.step, self, *args, **kwargs))

    def reduce(self: Any, protocol: Any) -> Any:
        # A copy made during the fit is a plain scheduler: pickle would not find this class.
        function, arguments, *rest = original.__reduce_ex__(self, protocol)
        return (function, tuple(original if item is type(self) else item for item in arguments), *rest)

    names = {"__module__": original.__module__, "__qualname__": original.__qualname__, "__doc__": original.__doc__}
    methods = {"step": functools.wraps(original.step)(step), "__reduce_ex__": reduce}
    return type(original.__name__, (original,), {"__slots__": (), **names, **methods})


def _copied(rate: Rate) -> Rate:
    return rate.detach().clone() if isinstance(rate, Tensor) else rate


def _put(group: dict[str, Any], rate: Rate) -> None:
    """Write a rate; into a tensor in place, because compiled and captured optimizers hold on to it."""
    if isinstance(group["lr"], Tensor):
        with torch.no_grad():
            group["lr"].copy_(rate) if isinstance(rate, Tensor) else group["lr"].fill_(rate)
    else:
        group["lr"] = float(rate) if isinstance(rate, Tensor) else rate


def _differs(rate: Rate, known: _Group) -> bool:
    """Whether a rate is not the one that was written. A tensor's value is only looked at if somebody wrote to it."""
    if isinstance(rate, Tensor) and rate is known.holder and rate._version == known.version:
        return False
    return float(rate) != float(known.written)
