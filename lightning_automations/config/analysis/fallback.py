"""Which fallback a file's own scheduler becomes, and what of it gets lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from lightning_automations.core.checking import checked

__all__ = ["OwnFallback", "own_fallback", "rounded"]

_LOWEST_SHARE_OF_RATE = 0.05
"""Where the recommended cosine ends, as a share of the rate: 1e-5 for the 2e-4 of the analysis."""

_Steps = Annotated[int, Ge(1)]
_Factor = Annotated[float, Gt(0), Le(1)]
_Lowest = Annotated[float, Ge(0), Lt(math.inf)]
_OF_NO_WEIGHT = ("last_epoch", "verbose")
"""Arguments that say nothing about the rate."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """A scheduler that a fallback may be: its short name, arguments that have to be there, and that may be."""

    name: str
    needed: Mapping[str, Any]
    possible: Mapping[str, Any]
    restarts: bool = False


_COSINE = _Known(name="cosine", needed={}, possible={"eta_min": _Lowest, "T_max": _Steps})
_RESTARTING = _Known(name="cosine", needed={}, possible={"eta_min": _Lowest}, restarts=True)
_SCHEDULERS: Mapping[str, _Known] = {
    "multisteplr": _Known(name="multistep", needed={"milestones": tuple[_Steps, ...]}, possible={"gamma": _Factor}),
    "steplr": _Known(name="step", needed={"step_size": _Steps}, possible={"gamma": _Factor}),
    "exponentiallr": _Known(name="exponential", needed={"gamma": _Factor}, possible={}),
    "cosineannealinglr": _COSINE,
    "cosineannealingrestartlr": _RESTARTING,
    "cosineannealingwarmrestarts": _RESTARTING,
}


@dataclass(frozen=True, kw_only=True)
class OwnFallback:
    """The fallback that a file gets.

    Args:
        settings: Its type and arguments.
        lost: What of the file's own scheduler is not in it, and why, as a sentence; None: nothing is lost.
    """

    settings: dict[str, Any]
    lost: str | None


def own_fallback(kind: str | None, params: Mapping[str, Any], *, rate: float | None, steps: int | None) -> OwnFallback:
    """The scheduler of the file, or the recommended cosine where it has none that a fallback may be.

    Args:
        kind: The scheduler's class or short name; None where the file has none.
        params: Its arguments.
        rate: The learning rate.
        steps: Optimizer steps of the run.

    Example:
        >>> own_fallback("MultiStepLR", {"milestones": [900]}, rate=None, steps=500).lost
        'all milestones of MultiStepLR lie beyond the 500 steps of the run: a cosine takes its place'
    """
    known = None if kind is None else _SCHEDULERS.get(_folded(kind))
    taken = None if known is None else _arguments(params, known)
    useless = None if taken is None else _lowers_nothing(kind or "", taken, rate, steps)
    if known is None or taken is None or useless is not None:
        lowest = {} if rate is None else {"eta_min": rounded(rate * _LOWEST_SHARE_OF_RATE)}
        unknown = None if kind is None else f"{kind} with these arguments cannot be a fallback"
        why = useless or unknown
        lost = None if why is None else f"{why}: a cosine takes its place"
        known, taken = _COSINE, lowest
    else:
        lost = _left_out(kind or "", known, params)
    if known.name == "cosine" and steps is not None:
        taken = {**taken, "T_max": steps}
    written = {"scheduler_type": known.name, "scheduler_params": taken}
    return OwnFallback(settings={name: value for name, value in written.items() if value}, lost=lost)


def rounded(number: float) -> float:
    """Without the last digits of binary arithmetic."""
    return float(f"{number:.6g}")


def _left_out(kind: str, known: _Known, params: Mapping[str, Any]) -> str | None:
    """What a fallback that takes the scheduler's place does not have of it."""
    if known.restarts:
        return f"the restarts of {kind} are left out: the fallback is one cosine to the end of the run"
    others = sorted(set(params) - {*known.needed, *known.possible, *_OF_NO_WEIGHT})
    return f"{', '.join(others)} of {kind} are not arguments of a fallback, and left out" if others else None


def _lowers_nothing(kind: str, taken: Mapping[str, Any], rate: float | None, steps: int | None) -> str | None:
    """Why the rate stays where it is in this run; None where it does not."""
    milestones, size, lowest = taken.get("milestones"), taken.get("step_size"), taken.get("eta_min")
    if milestones is not None and not milestones:
        return f"{kind} has no milestones"
    if steps is not None and milestones is not None and min(milestones) >= steps:
        return f"all milestones of {kind} lie beyond the {steps} steps of the run"
    if steps is not None and size is not None and size >= steps:
        return f"step_size of {kind} is {size} and the run has {steps} steps"
    if rate is not None and lowest is not None and lowest >= rate:
        return f"eta_min of {kind} is {lowest:g} and the rate is {rate:g}"
    return None


def _folded(name: str) -> str:
    """A class of torch or a short name of ours, as one."""
    folded = name.rpartition(".")[2].replace("_", "").lower()
    short = {
        "multistep": "multisteplr",
        "step": "steplr",
        "exponential": "exponentiallr",
        "cosine": "cosineannealinglr",
    }
    return short.get(folded, folded)


def _arguments(params: Mapping[str, Any], known: _Known) -> dict[str, Any] | None:
    """Arguments that the fallback takes; None where one that it needs is missing or wrong."""
    taken: dict[str, Any] = {}
    for name, hint in {**known.needed, **known.possible}.items():
        if name in params:
            value, problems = checked(params[name], hint, path=name)
            if problems:
                return None
            taken[name] = list(value) if isinstance(value, tuple) else value
    return taken if set(known.needed) <= set(taken) else None
