"""The schedulers of torch that a fallback may name, and the values that their arguments may have."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from torch.optim import lr_scheduler

from lightning_automations.core.checking import checked

__all__ = [
    "FUNCTIONS",
    "SHORT_NAMES",
    "argument_type",
    "class_names",
    "fitted_arguments",
    "parameters_of",
    "scheduler_class",
]

SHORT_NAMES = {
    "cosine": "CosineAnnealingLR",
    "step": "StepLR",
    "multistep": "MultiStepLR",
    "exponential": "ExponentialLR",
    "plateau": "ReduceLROnPlateau",
    "constant": "ConstantLR",
}

FUNCTIONS = ("lr_lambda", "scale_fn")
"""Arguments that are functions, which only a program can hand over."""

_Steps = Annotated[int, Ge(1)]
_Count = Annotated[int, Ge(0)]
_Rate = Annotated[float, Gt(0), Lt(math.inf)]
_LowestRate = Annotated[float, Ge(0), Lt(math.inf)]
_Share = Annotated[float, Ge(0), Le(1)]
# A fallback takes over where training was in trouble: no factor may raise the rate.
_Factor = Annotated[float, Gt(0), Le(1)]
_Divisor = Annotated[float, Ge(1), Lt(math.inf)]

# By the name alone: torch means the same by it in all of its schedulers, but for those below.
_TYPES: Mapping[str, Any] = {
    "T_0": _Steps,
    "T_max": _Steps,
    "T_mult": _Steps,
    "epochs": _Steps,
    "milestones": tuple[_Steps, ...],
    "step_size": _Steps,
    "step_size_down": _Steps | None,
    "step_size_up": _Steps,
    "steps_per_epoch": _Steps,
    "total_iters": _Steps,
    "total_steps": _Steps,
    "cooldown": _Count,
    "patience": _Count,
    "base_lr": _Rate | tuple[_Rate, ...],
    "max_lr": _Rate | tuple[_Rate, ...],
    "eps": _LowestRate,
    "eta_min": _LowestRate,
    "min_lr": _LowestRate | tuple[_LowestRate, ...],
    "threshold": _LowestRate,
    "end_factor": _Share,
    "pct_start": _Share,
    "factor": _Factor,
    "gamma": _Factor,
    "start_factor": _Factor,
    "power": Annotated[float, Gt(0), Lt(math.inf)],
    "div_factor": _Divisor,
    "final_div_factor": _Divisor,
    "anneal_strategy": Literal["cos", "linear"],
    "scale_mode": Literal["cycle", "iterations"],
    "threshold_mode": Literal["rel", "abs"],
    "cycle_momentum": bool,
    "three_phase": bool,
    # The schedule begins where the automation retires.
    "last_epoch": Literal[-1],
}
_TYPES_IN_ONE_CLASS: Mapping[tuple[str, str], Any] = {
    ("CyclicLR", "mode"): Literal["triangular", "triangular2", "exp_range"],
    ("ReduceLROnPlateau", "mode"): Literal["min", "max"],
    ("ReduceLROnPlateau", "factor"): Annotated[float, Gt(0), Lt(1)],
}


def argument_type(kind: str, name: str) -> Any:
    """The annotated type of an argument; Any where torch alone can say.

    Args:
        kind: ``scheduler_type``, whether torch has it or not.
        name: Name of the argument.
    """
    return _TYPES_IN_ONE_CLASS.get((SHORT_NAMES.get(kind, kind), name), _TYPES.get(name, Any))


def fitted_arguments(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as torch wants them: YAML reads ``4e4`` as a float, and torch may insist on a whole number."""
    return {name: checked(value, argument_type(kind, name), path=name)[0] for name, value in arguments.items()}


def parameters_of(kind: str) -> dict[str, inspect.Parameter]:
    """The parameters of the scheduler but for its optimizer."""
    scheduler: Any = scheduler_class(kind)
    return {name: item for name, item in inspect.signature(scheduler).parameters.items() if name != "optimizer"}


def scheduler_class(kind: str) -> type | None:
    """The class of torch that ``scheduler_type`` means; None where torch has none of that name."""
    name = SHORT_NAMES.get(kind, kind)
    return vars(lr_scheduler)[name] if name in class_names() else None


def class_names() -> list[str]:
    """The names of all schedulers in ``torch.optim.lr_scheduler``."""
    base = lr_scheduler.LRScheduler
    classes = [vars(lr_scheduler)[name] for name in lr_scheduler.__all__]
    return [item.__name__ for item in classes if isinstance(item, type) and issubclass(item, base) and item is not base]
