"""What is wrong with the scheduler of a fallback, found before any training."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from lightning_automations.callbacks.fallback_arguments import (
    FUNCTIONS,
    SHORT_NAMES,
    argument_type,
    class_names,
    parameters_of,
    scheduler_class,
)
from lightning_automations.callbacks.fallback_schedule import HORIZONS, FallbackSchedule
from lightning_automations.core.checking import checked, shown
from lightning_automations.core.errors import Problem, nearest

__all__ = ["fallback_problems", "problems_of_written_fallback"]

_START = 0.1
_STEPS_OF_A_TRIAL = 100
# Arguments that may be a list with one value for every parameter group.
_PER_GROUP = ("max_lr", "base_lr", "min_lr", "lr_lambda", "base_momentum", "max_momentum")
# Classes that take the rates they lead to as numbers: how those compare to the rate of the run is known in the run.
_OWN_RATES = ("max_lr", "base_lr")
# A function may raise the rate, as a restart does; ten times the rate is no rate to fall back to.
_RAISE_OF_A_FUNCTION = 10.0
# Rounding in torch's recursive formulas.
_ROUNDING = 1e-6
# What a scheduler of torch raises on arguments of the wrong type or value: it checks some and trips over the others.
_REFUSALS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def problems_of_written_fallback(settings: Mapping[str, Any], path: str) -> list[Problem]:
    """What is wrong with ``fallback`` among settings as they were written, beyond the types of its two parts.

    Args:
        settings: Names and values; the fallback may be missing or of any type.
        path: Dotted path of the settings.
    """
    fallback = settings.get("fallback")
    if not isinstance(fallback, Mapping) or not isinstance(fallback.get("scheduler_type"), str):
        return []
    if not isinstance(fallback.get("scheduler_params", {}), Mapping):
        return []
    return fallback_problems(fallback, path=f"{path}.fallback")


def fallback_problems(fallback: Mapping[str, Any], *, path: str) -> list[Problem]:
    """What is wrong with a fallback: its type, its arguments, or the rates that they lead to.

    Args:
        fallback: ``scheduler_type`` and ``scheduler_params``.
        path: Dotted path of the setting.
    """
    if "scheduler_type" not in fallback:
        return []
    kind, arguments = fallback["scheduler_type"], fallback.get("scheduler_params", {})
    inside = f"{path}.scheduler_params"
    wrong = _wrong_values(kind, arguments, path=inside)
    if scheduler_class(kind) is None:
        return [_unknown_type(kind, path=f"{path}.scheduler_type"), *wrong]
    # Under a wrong name, what is missing may be there.
    named = _unknown_arguments(kind, arguments, path=inside) or _missing(kind, arguments, path=inside)
    return [*named, *wrong] or _problems_of_a_trial(fallback, path=inside)


def _unknown_type(kind: str, *, path: str) -> Problem:
    return Problem(
        path=path,
        expected=f"one of {', '.join(SHORT_NAMES)}, or a class of torch.optim.lr_scheduler",
        got=repr(kind),
        hint=nearest(kind, [*SHORT_NAMES, *class_names()]),
    )


def _unknown_arguments(kind: str, arguments: Mapping[str, Any], *, path: str) -> list[Problem]:
    known = list(parameters_of(kind))
    return [
        Problem(
            path=f"{path}.{name}",
            expected=f"an argument of {_class_name(kind)} ({', '.join(known)})",
            got=repr(name),
            hint=nearest(str(name), known),
        )
        for name in arguments
        if name not in known
    ]


def _wrong_values(kind: str, arguments: Mapping[str, Any], *, path: str) -> list[Problem]:
    problems = []
    for name, value in arguments.items():
        problems += checked(value, argument_type(kind, name), path=f"{path}.{name}")[1]
        if name in FUNCTIONS and not _holds_functions(value):
            problems.append(
                Problem(path=f"{path}.{name}", expected="a function, which only a program can give", got=shown(value))
            )
    return problems


def _holds_functions(value: Any) -> bool:
    return all(callable(item) for item in value) if isinstance(value, (list, tuple)) else callable(value)


def _missing(kind: str, arguments: Mapping[str, Any], *, path: str) -> list[Problem]:
    """Arguments without a default; a horizon that is not written is the rest of the run."""
    return [
        Problem(
            path=f"{path}.{name}", expected=f"a value, for {_class_name(kind)} has no default for it", got="nothing"
        )
        for name, parameter in parameters_of(kind).items()
        if parameter.default is inspect.Parameter.empty and name not in (*HORIZONS, *arguments)
    ]


def _problems_of_a_trial(fallback: Mapping[str, Any], *, path: str) -> list[Problem]:
    """Let the schedule run over dummy parameters: what torch refuses, and rates that no fallback should lead to."""
    kind, arguments = fallback["scheduler_type"], fallback.get("scheduler_params", {})
    try:
        rates = _rates_of_a_trial(fallback)
    except _REFUSALS as error:
        expected = f"arguments that {_class_name(kind)} accepts"
        hint = f"torch refuses them: {error}"
        return [Problem(path=path, expected=expected, got=repr(dict(arguments)), hint=hint)]
    most = _most(arguments)
    wrong = [(step, rate) for step, rate in rates if not (math.isfinite(rate) and 0 <= rate <= most * (1 + _ROUNDING))]
    if not wrong:
        return []
    step, rate = wrong[0]
    return [
        Problem(
            path=path,
            expected=f"arguments that keep the rate between 0 and {most / _START:g} times the rate at the start",
            got=f"{rate / _START:.4g} times that rate after step {step}",
        )
    ]


def _rates_of_a_trial(fallback: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Each step and the rate after it; a plateau schedule sees metrics that never get better."""
    arguments = fallback.get("scheduler_params", {})
    lengths = [
        len(value) for name, value in arguments.items() if name in _PER_GROUP and isinstance(value, (list, tuple))
    ]
    schedule = FallbackSchedule(fallback, [[_START] * max(lengths, default=1)], steps_left=_STEPS_OF_A_TRIAL)
    rates = [(0, rate) for rate in schedule.rates[0]]
    for step in range(1, _STEPS_OF_A_TRIAL + 1):
        schedule.advance(1)
        schedule.judge(float(step), "min")
        rates += [(step, rate) for rate in schedule.rates[0]]
    return rates


def _most(arguments: Mapping[str, Any]) -> float:
    """The highest rate that a schedule may lead to, where it starts at that of the trial."""
    if any(name in FUNCTIONS for name in arguments):
        return _START * _RAISE_OF_A_FUNCTION
    own = [arguments[name] for name in _OWN_RATES if name in arguments]
    highest: float = max([_START, *(max(rates) if isinstance(rates, (list, tuple)) else rates for rates in own)])
    return highest


def _class_name(kind: str) -> str:
    scheduler: Any = scheduler_class(kind)
    return str(scheduler.__name__)
