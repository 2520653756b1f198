"""The schedule that takes over when the learning-rate automation retires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch.optim import lr_scheduler

from lightning_automations.callbacks.fallback_arguments import fitted_arguments, parameters_of, scheduler_class

__all__ = ["HORIZONS", "FallbackSchedule"]

HORIZONS = ("T_max", "total_steps", "total_iters", "max_iters")
# At the end of these horizons the schedule would start again or fail; it is held instead.
_ENDING = {"T_max": 0, "total_steps": 1}
_LOWEST_RATES = ("eta_min", "min_lr")
# What changes in a scheduler of torch as it steps; all the rest follows from its arguments.
_MOVING = ("last_epoch", "_step_count", "T_cur", "T_i", "best", "num_bad_epochs", "cooldown_counter")


class FallbackSchedule:
    """A scheduler of torch over dummy parameters, one for each group of the run, from which only the rates are taken.

    A horizon (``T_max``, ``total_steps``, ``total_iters``, ``max_iters``) is shortened to the steps that remain, and is
    those steps where it is not written; after a horizon that ends, the rate is held. A lowest rate (``eta_min``,
    ``min_lr``) above the rate at the start is lowered to it.

    Args:
        fallback: ``scheduler_type`` and ``scheduler_params``, checked by ``fallback_problems``.
        start: Rates of every group of every optimizer at the start.
        steps_left: Optimizer steps that remain, or None where that is not known.

    Example:
        >>> schedule = FallbackSchedule({"scheduler_type": "cosine"}, [[0.1]], steps_left=2)
        >>> schedule.advance(1)
        >>> schedule.rates
        [[0.05]]
    """

    def __init__(
        self, fallback: Mapping[str, Any], start: Sequence[Sequence[float]], *, steps_left: int | None
    ) -> None:
        self._fallback = fallback
        self._start = [list(rates) for rates in start]
        self._steps_left = steps_left
        self._taken = 0
        self._mode: str = "min"
        self._build()

    @property
    def rates(self) -> list[list[float]]:
        """The scheduled rate of every group of every optimizer now."""
        flat = iter(self._optimizer.param_groups)
        return [[float(next(flat)["lr"]) for _ in rates] for rates in self._start]

    def advance(self, steps: int) -> None:
        """Take steps of the optimizer into account; a plateau schedule waits for validations instead."""
        if isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau):
            return
        for _ in range(steps):
            if self._last_step is not None and self._taken >= self._last_step:
                return
            self._taken += 1
            self._scheduler.step()

    def judge(self, metric: float, mode: Literal["min", "max"]) -> None:
        """Take a validation metric into account; does nothing but for a plateau schedule.

        Args:
            metric: The metric.
            mode: Whether it is better when it is lower or higher, unless the arguments of the schedule say so.
        """
        if not isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau):
            return
        if self._taken == 0 and mode != self._mode:
            self._mode = mode
            self._build()
        self._taken += 1
        self._scheduler.step(metric)

    def state_dict(self) -> dict[str, Any]:
        """The schedule as JSON-able values."""
        moving = {name: value for name, value in vars(self._scheduler).items() if name in _MOVING}
        return {
            "scheduler_type": self._fallback["scheduler_type"],
            "start": self._start,
            "steps_left": self._steps_left,
            "taken": self._taken,
            "mode": self._mode,
            "rates": self.rates,
            "scheduler": {name: None if value is None else float(value) for name, value in moving.items()},
        }

    @classmethod
    def from_state(cls, fallback: Mapping[str, Any], state: Mapping[str, Any]) -> FallbackSchedule:
        """The schedule that ``state_dict`` was asked of, to be gone on with."""
        schedule = cls(fallback, state["start"], steps_left=state["steps_left"])
        schedule._mode, schedule._taken = state["mode"], state["taken"]
        schedule._build()
        for name, value in state["scheduler"].items():
            whole = value is not None and float(value).is_integer() and name != "best"
            setattr(schedule._scheduler, name, int(value) if whole else value)
        flat = [rate for rates in state["rates"] for rate in rates]
        for group, rate in zip(schedule._optimizer.param_groups, flat, strict=True):
            group["lr"] = rate
        return schedule

    def _build(self) -> None:
        flat = [rate for rates in self._start for rate in rates]
        kind, arguments = self._plan(lowest=min(flat))
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in flat]
        # Momentum lets the cyclic schedules be built; nothing is ever optimized here.
        self._optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
        ends = [arguments[name] - before for name, before in _ENDING.items() if name in arguments]
        self._last_step: int | None = min(ends) if ends else None
        self._scheduler: Any = kind(self._optimizer, **arguments)
        self._optimizer.step()  # torch warns of a scheduler that steps before its optimizer

    def _plan(self, *, lowest: float) -> tuple[Any, dict[str, Any]]:
        """The class and its arguments, fitted to the steps that remain and to the lowest of the rates."""
        named = self._fallback["scheduler_type"]
        kind: Any = scheduler_class(named)
        arguments = fitted_arguments(named, self._fallback.get("scheduler_params", {}))
        if {"epochs", "steps_per_epoch"} <= set(arguments):
            # The same horizon in other words.
            of_both = arguments.pop("epochs") * arguments.pop("steps_per_epoch")
            arguments.setdefault("total_steps", of_both)
        if named == "constant":
            arguments.setdefault("factor", 1.0)
        if kind is lr_scheduler.ReduceLROnPlateau:
            arguments.setdefault("mode", self._mode)
        for name in _LOWEST_RATES:
            if name in arguments:
                arguments[name] = _lowered(arguments[name], lowest)
        for name in [name for name in HORIZONS if name in parameters_of(named)]:
            if self._steps_left is not None:
                arguments[name] = max(min(arguments.get(name, self._steps_left), self._steps_left), 1)
            elif name in _ENDING and name not in arguments:
                # No horizon is written and the run has no end that is known: the rate is held.
                return lr_scheduler.ConstantLR, {"factor": 1.0}
        return kind, arguments


def _lowered(rate: Any, lowest: float) -> Any:
    if isinstance(rate, (list, tuple)):
        return [min(item, lowest) for item in rate]
    return min(rate, lowest)
