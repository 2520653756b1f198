"""Why the batch size of a training loader is left as it is."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import CellType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lightning_automations.lightning_internals import training_loaders
from lightning_automations.probes.rewinding import RandomStates

__all__ = ["accumulates", "exchange_obstacle", "growth_obstacle", "obstacle_within_epoch"]

log = logging.getLogger(__name__)

HORIZONS = ("total_steps", "T_max", "total_iters")
"""Attributes in which torch's schedulers keep their length."""
SAME_LENGTH = 0.1
"""Relative difference up to which a schedule counts as one that was made for the whole run."""

_EMPTY_CELL = CellType()

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
    if not hasattr(getattr(sampler, "sampler", None), "__len__"):
        return "the training loader's batch sampler has no sampler with a length, which tells the samples of an epoch"
    if not _follows_its_size(sampler):
        return "the training loader's batch sampler does not follow its batch_size"
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        return "the run overfits on a few batches (overfit_batches)"
    return None


def _classes_of_callbacks(trainer: Trainer) -> set[str]:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return {kind.__name__ for item in callbacks for kind in type(item).__mro__}


def _follows_its_size(sampler: Any) -> bool:
    """Whether a batch sampler makes larger batches when its ``batch_size`` is set; those of other classes are tried.

    ``__len__`` may be torch's and follow while ``__iter__`` does not: samples of each epoch would be left out.
    """
    if type(sampler) is BatchSampler:
        return True
    samples, size = len(sampler.sampler), 2 * sampler.batch_size
    with _nothing_drawn(sampler):
        try:
            trial = copy.copy(sampler)
            vars(trial).update({name: copy.copy(value) for name, value in vars(sampler).items() if _changes(value)})
            trial.batch_size = size
            lengths = (samples // size, -(-samples // size))
            return len(trial) in lengths and len(next(iter(trial), ())) == min(size, samples)
        except Exception as error:
            log.debug("%s was not tried", type(sampler).__name__, exc_info=error)
            return False


def _changes(value: Any) -> bool:
    """Whether it is a container that an iteration may change, as by a shuffle in place."""
    return isinstance(value, (list, dict, set))


@contextmanager
def _nothing_drawn(sampler: Any) -> Iterator[None]:
    """Random generators, the sampler's own among them, go on from where they were."""
    own = [value for holder in (sampler, sampler.sampler) for value in getattr(holder, "__dict__", {}).values()]
    generators = [(value, value.get_state()) for value in own if isinstance(value, torch.Generator)]
    states = RandomStates(torch.device("cpu"))
    try:
        yield
    finally:
        states.put_back()
        for generator, state in generators:
            generator.set_state(state)


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
    counts = [value for item in getattr(scheduler, "lr_lambdas", []) for value in _whole_numbers_of(item)]
    return [*own, *counts, *inside, sum(inside)]


def _whole_numbers_of(function: Any) -> list[int]:
    """Those that a function of the step was made with, which may be counts of steps.

    ``functools.partial`` keeps them as keywords (as in transformers), an object as attributes, an ordinary function as
    defaults, in the variables around it, or written in its code.
    """
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    values = [
        *getattr(function, "keywords", {}).values(),
        *getattr(function, "__dict__", {}).values(),
        *(getattr(function, "__defaults__", None) or ()),
        *(cell.cell_contents for cell in cells if cell != _EMPTY_CELL),
        *(code.co_consts if code is not None else ()),
    ]
    return [value for value in values if isinstance(value, int)]
