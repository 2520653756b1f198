"""The settings that a run should have: the recommended block, with the numbers that its own file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_automations.config.analysis.fallback import OwnFallback, own_fallback, rounded
from lightning_automations.config.analysis.patience import patience_of_validations
from lightning_automations.config.names import BUILT_UNNAMED
from lightning_automations.core.batch_size_settings import BatchSizeSettings
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings
from lightning_automations.core.settings import AutomationSettings, RunLength

__all__ = ["Numbers", "fallback_of", "recommended", "stopper_is_useless"]

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

_FEWEST_STEPS = 3
"""One to judge first, one to be no better, and one to be saved."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the file says of the run, as far as it does.

    Args:
        steps: Optimizer steps of the run.
        batch_size: Samples in a batch of the loader.
        rate: The learning rate.
        clip_norm: The largest norm of the gradients.
        scheduler_type: Name of the scheduler.
        scheduler_params: Its arguments.
        validation_steps: Optimizer steps between validations.
        metrics: What validation computes, as it is logged; empty where it computes nothing, None where that is not
            known.
        no_validation: Why no validation falls into the run; None where one may.
    """

    steps: int | None = None
    batch_size: int | None = None
    rate: float | None = None
    clip_norm: float | None = None
    scheduler_type: str | None = None
    scheduler_params: Mapping[str, Any] = field(default_factory=dict)
    validation_steps: int | None = None
    metrics: tuple[str, ...] | None = None
    no_validation: str | None = None


def recommended(numbers: Numbers) -> dict[str, dict[str, Any]]:
    """The settings of each automation, under its name.

    A count of steps that is too long for the run is shortened as it would be at the start of a fit; where the length
    of the run is not known it is not written, so that it is fitted then. An interval of decisions that the run is too
    short for becomes 1. ``min_epochs`` is 0 in a run that is counted in steps, where ``min_iterations`` says the same
    in the unit of the run. A patience that is over at the first validation is raised to several of them; where the run
    has no room for that, the stopper is turned off.

    Example:
        >>> recommended(Numbers(batch_size=64))["DynamicBatchSizeOptimizer"]["max_batch_size"]
        64
    """
    own = {
        "IntelligentLearningRateScheduler": {"fallback": fallback_of(numbers).settings},
        "DynamicBatchSizeOptimizer": _batch_size(numbers),
        "AdaptiveGradientClipping": _clipping(numbers),
        "IntelligentEarlyStopping": _stopping(numbers),
    }
    return {
        settings.automation: _in_order(settings, {**_base(settings, numbers), **own[settings.automation]})
        for settings in BUILT_UNNAMED
    }


def _in_order(settings: type[AutomationSettings], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as the recommended block has them; those that are None are left out."""
    return {name: values[name] for name in _WRITTEN[settings.automation] if values.get(name) is not None}


def _base(settings: type[AutomationSettings], numbers: Numbers) -> dict[str, Any]:
    fitted = settings().fitted(RunLength(steps=numbers.steps), written=())
    unknown = {"monitor_metric", *settings.shares_of_epochs}
    if numbers.steps is None:
        unknown.update(settings.shares_of_steps)
    return {name: getattr(fitted, name) for name in _WRITTEN[settings.automation] if name not in unknown}


def _batch_size(numbers: Numbers) -> dict[str, Any]:
    defaults = BatchSizeSettings()
    own: dict[str, Any] = {}
    if numbers.batch_size is not None:
        own["max_batch_size"] = max(defaults.max_batch_size, numbers.batch_size)
        own["fallback"] = {"batch_size": numbers.batch_size}
    if numbers.steps is not None and defaults.adjustment_frequency >= numbers.steps:
        own["adjustment_frequency"] = 1
    return own


def _clipping(numbers: Numbers) -> dict[str, Any]:
    norm, own = numbers.clip_norm, {}
    if numbers.steps is not None and GradientClippingSettings().monitoring_frequency >= numbers.steps:
        own["monitoring_frequency"] = 1
    if norm is None:
        return own
    # the recommended bounds are a tenth and ten times the recommended threshold
    bounds = {"min_threshold": min(0.1, rounded(norm / 10)), "max_threshold": max(10.0, rounded(norm * 10))}
    return {**own, "initial_threshold": norm, **bounds, "fallback": {"threshold": norm}}


def stopper_is_useless(numbers: Numbers) -> str | None:
    """Why nothing can be judged in the run that early stopping could end it by; None where something can."""
    if numbers.no_validation is not None:
        return f"no validation falls into the run: {numbers.no_validation}"
    if numbers.metrics == ():
        return "validation computes no metric"
    if numbers.steps is not None and numbers.steps < _FEWEST_STEPS:
        return "the run is over before anything can be judged"
    rare = _rare_validation(numbers)
    if rare is not None and _patience(*rare) is None:
        return f"validation comes every {numbers.validation_steps} steps, and the run has {numbers.steps}"
    return None


def _stopping(numbers: Numbers) -> dict[str, Any]:
    own: dict[str, Any] = {} if numbers.steps is None else {"min_epochs": 0}
    rare = _rare_validation(numbers)
    if rare is not None:
        own.update(patience=_patience(*rare), max_no_improvement=_patience(*rare))
    if numbers.metrics:
        # naming a metric that never comes is an error
        names = sorted(numbers.metrics, key=lambda name: name != EarlyStoppingSettings().monitor_metric)
        own["monitor_metric"] = names[0]
    return own if stopper_is_useless(numbers) is None else {**own, "enabled": False}


def _rare_validation(numbers: Numbers) -> tuple[int, int] | None:
    """The run's steps and those between validations, where the usual patience would be over at the second one."""
    steps, between = numbers.steps, numbers.validation_steps
    if steps is None or between is None or between < _fitted_stopper(steps).shortest_wait:
        return None
    return steps, between


def _patience(steps: int, between: int) -> int | None:
    """A patience of several validations; None where the run has no room for it."""
    warmup = _fitted_stopper(steps).warmup_iterations
    return patience_of_validations(steps=steps, steps_between=between, warmup_steps=warmup)


def _fitted_stopper(steps: int) -> EarlyStoppingSettings:
    return EarlyStoppingSettings().fitted(RunLength(steps=steps), written=())


def fallback_of(numbers: Numbers) -> OwnFallback:
    """The fallback of the learning rate, and what of the file's scheduler is not in it."""
    return own_fallback(numbers.scheduler_type, numbers.scheduler_params, rate=numbers.rate, steps=numbers.steps)
