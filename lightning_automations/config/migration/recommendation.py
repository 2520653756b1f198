"""The settings that a run should have: the recommended block, with the numbers that its own file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from lightning_automations.config.names import SETTINGS_CLASSES
from lightning_automations.core.checking import checked
from lightning_automations.core.settings import AutomationSettings, RunLength

__all__ = ["Numbers", "recommended"]

_WRITTEN: Mapping[str, tuple[str, ...]] = {
    "IntelligentLearningRateScheduler": (
        "enabled", "monitor_loss", "monitor_validation", "adaptation_threshold", "plateau_patience",
        "improvement_threshold", "min_lr_factor", "max_lr_factor", "fallback",
    ),
    "DynamicBatchSizeOptimizer": (
        "enabled", "target_vram_usage", "safety_margin", "adjustment_frequency", "min_batch_size", "max_batch_size",
        "vram_history_size", "fallback", "max_adjustments",
    ),
    "AdaptiveGradientClipping": (
        "enabled", "initial_threshold", "min_threshold", "max_threshold", "adjustment_factor", "monitoring_frequency",
        "gradient_history_size", "fallback", "max_adjustments",
    ),
    "IntelligentEarlyStopping": (
        "enabled", "patience", "min_improvement", "min_epochs", "min_iterations", "monitor_metric",
        "max_no_improvement", "improvement_threshold", "warmup_iterations", "fallback", "max_adjustments",
    ),
}  # fmt: skip
"""The settings of the recommended block, in its order. Their values there are the defaults."""

_LOWEST_SHARE_OF_RATE = 0.05
"""Where the recommended cosine ends, as a share of the rate: 1e-5 for the 2e-4 of the analysis."""

_Steps = Annotated[int, Ge(1)]
_Factor = Annotated[float, Gt(0), Le(1)]
_Lowest = Annotated[float, Ge(0)]
_SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    # class of torch: short name, arguments that have to be there, arguments that may be
    "multisteplr": ("multistep", {"milestones": tuple[_Steps, ...]}, {"gamma": _Factor}),
    "steplr": ("step", {"step_size": _Steps}, {"gamma": _Factor}),
    "exponentiallr": ("exponential", {"gamma": _Factor}, {}),
    "cosineannealinglr": ("cosine", {}, {"eta_min": _Lowest, "T_max": _Steps}),
}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the file says of the run, as far as it does.

    Args:
        steps: Optimizer steps of the run.
        epochs: Epochs of the run.
        batch_size: Samples in a batch of the loader.
        rate: The learning rate.
        clip_norm: The largest norm of the gradients.
        scheduler_type: Name of the scheduler.
        scheduler_params: Its arguments.
        stopping: Settings of early stopping that the file gives, a stopper's or a metric's name.
    """

    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    rate: float | None = None
    clip_norm: float | None = None
    scheduler_type: str | None = None
    scheduler_params: Mapping[str, Any] = field(default_factory=dict)
    stopping: Mapping[str, Any] = field(default_factory=dict)


def recommended(numbers: Numbers) -> dict[str, dict[str, Any]]:
    """The settings of each automation, under its name.

    A count of steps that is too long for the run is shortened as it would be at the start of a fit; where the length
    of the run is not known it is not written, so that it is fitted then. ``min_epochs`` is 0 in a run that is counted
    in steps, where ``min_iterations`` says the same in the unit of the run.

    Example:
        >>> recommended(Numbers(batch_size=64))["DynamicBatchSizeOptimizer"]["max_batch_size"]
        64
    """
    own = {
        "IntelligentLearningRateScheduler": {"fallback": _fallback(numbers)},
        "DynamicBatchSizeOptimizer": _batch_size(numbers),
        "AdaptiveGradientClipping": _clipping(numbers),
        "IntelligentEarlyStopping": dict(numbers.stopping),
    }
    return {
        settings.automation: _in_order(settings.automation, {**_base(settings, numbers), **own[settings.automation]})
        for settings in SETTINGS_CLASSES
    }


def _in_order(automation: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the recommended block has them, others behind them."""
    names = [name for name in _WRITTEN[automation] if name in values]
    return {name: values[name] for name in [*names, *(name for name in values if name not in names)]}


def _base(settings: type[AutomationSettings], numbers: Numbers) -> dict[str, Any]:
    fitted = settings().fitted(RunLength(steps=numbers.steps, epochs=numbers.epochs), written=())
    unknown = {"monitor_metric"}
    if numbers.steps is None:
        unknown.update(settings.shares_of_steps)
    if numbers.epochs is None:
        unknown.update(settings.shares_of_epochs)
    names = _WRITTEN[settings.automation]
    base = {name: getattr(fitted, name) for name in names if name not in unknown}
    if numbers.steps is not None and settings.shares_of_epochs:
        base["min_epochs"] = 0
    return base


def _batch_size(numbers: Numbers) -> dict[str, Any]:
    if numbers.batch_size is None:
        return {}
    most = next(settings() for settings in SETTINGS_CLASSES if settings.automation == "DynamicBatchSizeOptimizer")
    written = {"max_batch_size": max(vars(most)["max_batch_size"], numbers.batch_size)}
    return {**written, "fallback": {"batch_size": numbers.batch_size}}


def _clipping(numbers: Numbers) -> dict[str, Any]:
    norm = numbers.clip_norm
    if norm is None:
        return {}
    # the recommended bounds are a tenth and ten times the recommended threshold
    bounds = {"min_threshold": min(0.1, norm / 10), "max_threshold": max(10.0, norm * 10)}
    return {"initial_threshold": norm, **bounds, "fallback": {"threshold": norm}}


def _fallback(numbers: Numbers) -> dict[str, Any]:
    """The scheduler of the file, or the recommended cosine where it has none that a fallback may be."""
    known = _SCHEDULERS.get(_folded(numbers.scheduler_type or ""))
    taken = None if known is None else _arguments(numbers.scheduler_params, known[1], known[2])
    if known is None or taken is None:
        lowest = {} if numbers.rate is None else {"eta_min": _rounded(numbers.rate * _LOWEST_SHARE_OF_RATE)}
        kind, taken = "cosine", lowest
    else:
        kind = known[0]
    if kind == "cosine" and numbers.steps is not None:
        taken = {**taken, "T_max": numbers.steps}
    return {"scheduler_type": kind, "scheduler_params": taken} if taken else {"scheduler_type": kind}


def _folded(name: str) -> str:
    """A class of torch or a short name of ours, as one."""
    folded = name.rpartition(".")[2].replace("_", "").lower()
    short = {value[0]: key for key, value in _SCHEDULERS.items()}
    return short.get(folded, folded)


def _arguments(
    params: Mapping[str, Any], needed: Mapping[str, Any], possible: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Arguments that the fallback takes; None where one that it needs is missing or wrong."""
    taken: dict[str, Any] = {}
    for name, hint in {**needed, **possible}.items():
        if name in params:
            value, problems = checked(params[name], hint, path=name)
            if problems:
                return None
            taken[name] = list(value) if isinstance(value, tuple) else value
    return taken if set(needed) <= set(taken) else None


def _rounded(rate: float) -> float:
    """Without the last digits of binary arithmetic."""
    return float(f"{rate:.6g}")
