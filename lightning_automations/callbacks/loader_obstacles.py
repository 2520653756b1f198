"""Why the batch size of a training loader is left as it is."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lightning_automations.lightning_internals import training_loaders

__all__ = ["accumulates", "exchange_obstacle", "growth_obstacle", "obstacle_within_epoch"]

HORIZONS = ("total_steps", "T_max", "total_iters")
"""Attributes in which torch's schedulers keep their length."""
SAME_LENGTH = 0.1
"""Relative difference up to which a schedule counts as one that was made for the whole run."""

ACCUMULATION_SCHEDULER = "GradientAccumulationScheduler"
ACCUMULATION_OWNERS = (ACCUMULATION_SCHEDULER, "StochasticWeightAveraging")
"""Callbacks of Lightning that set ``accumulate_grad_batches``, the second for the batch normalization at its end."""


def accumulates(trainer: Trainer) -> bool:
    """Whether the user accumulates gradients over several batches, from the start or later."""
    return trainer.accumulate_grad_batches > 1 or ACCUMULATION_SCHEDULER in _classes_of_callbacks(trainer)


def growth_obstacle(trainer: Trainer) -> str | None:
    """Why the loader's batch cannot grow in this fit, or None when it can."""
    return loader_obstacle(trainer) or _schedule_for_the_run(trainer)


def obstacle_within_epoch(trainer: Trainer) -> str | None:
    """Why a loader's batch that may grow can do so between two epochs only, or None when it can at any time."""
    loader = training_loaders(trainer)[0]
    if type(loader.batch_sampler) is not BatchSampler:
        return "the training loader has a batch sampler of its own"
    if not getattr(loader, "in_order", True):  # torch has it from 2.6 on
        return "the training loader gives its batches out of their order (in_order)"
    if trainer.limit_train_batches != 1.0:
        return "the run is limited to a part of each epoch (limit_train_batches)"
    # None: validations come by the clock.
    by_batches = trainer.enable_validation and trainer.val_check_batch is not None
    if by_batches and trainer.val_check_interval != 1.0:
        return "validations come after a number of batches (val_check_interval)"
    return None


def exchange_obstacle(trainer: Trainer, module: LightningModule) -> str | None:
    """Why larger batches cannot take the place of accumulation in this fit, or None when they can."""
    why = loader_obstacle(trainer)
    if why is not None:
        return why
    if type(training_loaders(trainer)[0].batch_sampler) is not BatchSampler:
        return "the training loader has a batch sampler of its own, whose larger batches may hold other samples"
    if getattr(module, "loss_reduction", "mean") == "sum" or hasattr(module, "batch_weight"):
        return "the module's loss is no mean over samples (loss_reduction, batch_weight)"
    owners = _classes_of_callbacks(trainer) & set(ACCUMULATION_OWNERS)
    if owners:
        return f"it belongs to another callback ({owners.pop()})"
    if any(config.interval == "step" and config.frequency != 1 for config in trainer.lr_scheduler_configs):
        return "a learning-rate schedule is stepped every so many batches (its frequency)"
    return None


def loader_obstacle(trainer: Trainer) -> str | None:
    """Why the batches of the training data cannot be changed at all, or None when they can."""
    loaders = training_loaders(trainer)
    if len(loaders) != 1:
        return f"there are {len(loaders)} training loaders"
    loader = loaders[0]
    sampler = getattr(loader, "batch_sampler", None)
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return "the training data are no DataLoader over a dataset with a length"
    if not isinstance(getattr(sampler, "batch_size", None), int):
        return "the training loader's batches are made by a batch sampler without a batch_size"
    if not hasattr(getattr(sampler, "sampler", sampler), "__len__"):
        return "the training loader's sampler has no length"
    if not _follows_its_size(sampler):
        return "the training loader's batch sampler does not follow its batch_size"
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        return "the run overfits on a few batches (overfit_batches)"
    return None


def _classes_of_callbacks(trainer: Trainer) -> set[str]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return {kind.__name__ for item in callbacks for kind in type(item).__mro__}


def _follows_its_size(sampler: Any) -> bool:
    """Whether a batch sampler makes larger batches when its ``batch_size`` is set; others are tried."""
    if type(sampler) is BatchSampler:
        return True
    size, batches = sampler.batch_size, len(sampler)
    sampler.batch_size = 2 * size
    follows = hasattr(sampler, "sampler") and len(sampler) in (batches // 2, -(-batches // 2))
    sampler.batch_size = size
    return follows


def _schedule_for_the_run(trainer: Trainer) -> str | None:
    steps = trainer.estimated_stepping_batches
    if math.isinf(steps):
        return None
    for config in trainer.lr_scheduler_configs:
        if config.interval == "step" and any(
            abs(length - steps) <= SAME_LENGTH * steps for length in _lengths(config.scheduler)
        ):
            return f"the schedule {type(config.scheduler).__name__} was made for the number of steps of this run"
    return None


def _lengths(scheduler: Any) -> list[float]:
    """The lengths in steps that a scheduler, or those inside it, was made for."""
    inside = [length for item in getattr(scheduler, "_schedulers", []) for length in _lengths(item)]
    own = [getattr(scheduler, name) for name in HORIZONS if isinstance(getattr(scheduler, name, None), (int, float))]
    # Functions made by functools.partial, as in transformers: their whole numbers are counts of steps.
    functions = getattr(scheduler, "lr_lambdas", [])
    counts = [value for item in functions for value in getattr(item, "keywords", {}).values() if isinstance(value, int)]
    return [*own, *counts, *inside, sum(inside)]
