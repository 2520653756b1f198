"""The batch size of the training loader, changed in place between two epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from lightning_automations.core.batch_size import BatchSizeSettings
from lightning_automations.lightning_internals import renumber_epoch, training_loaders

__all__ = ["LEFT_ALONE", "LoaderBatch", "given_batch_size", "growing_loader", "growth_obstacle", "rate_factor"]

LEFT_ALONE = "the loader's batch is left as it is"
"""The beginning of what is said where a loader does not grow."""
HORIZONS = ("total_steps", "T_max", "total_iters")
"""Attributes in which torch's schedulers keep their length."""
SAME_LENGTH = 0.1
"""Relative difference up to which a schedule counts as one that was made for the whole run."""


def given_batch_size(trainer: Trainer) -> int | None:
    """Samples per batch as the one training loader says it, or None where it does not."""
    loaders = training_loaders(trainer)
    if len(loaders) != 1:
        return None
    sampler = getattr(loaders[0], "batch_sampler", None)
    # A loader that is given a batch sampler has no batch_size of its own; torch's sampler keeps to its own.
    speaker = sampler if type(sampler) is BatchSampler else loaders[0]
    size = getattr(speaker, "batch_size", None)
    return size if isinstance(size, int) else None


def growth_obstacle(trainer: Trainer) -> str | None:
    """Why the loader's batch cannot grow in this fit, or None when it can."""
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
    return _schedule_for_the_run(trainer)


def growing_loader(
    trainer: Trainer,
    settings: BatchSizeSettings,
    written: Container[str],
    *,
    states: Sequence[Any],
    tell: Callable[[str], None],
) -> LoaderBatch | None:
    """The training loader, where its batch can be changed at all; ``tell`` says why it will not grow.

    Args:
        trainer: The trainer.
        settings: The settings.
        written: The names of the settings that the user has written.
        states: As for ``LoaderBatch``.
        tell: Called once at most.
    """
    why = growth_obstacle(trainer)
    if why is not None:
        if settings.effective_batch == "grow":
            tell(f"{LEFT_ALONE}: {why}")
        return None
    loader = LoaderBatch(trainer, states=states)
    if "effective_batch" not in written and loader.current < settings.max_batch_size:
        tell(f"{LEFT_ALONE}: it grows only where effective_batch: grow is written")
    return loader


def rate_factor(ratio: float, rule: str) -> float:
    """The learning rate's factor for an optimizer that sees ``ratio`` times as many samples per step.

    Args:
        ratio: New batch over old batch.
        rule: ``none``, ``sqrt``, ``linear``; ``auto``: the square root, also for SGD, which linear steps can ruin.
    """
    return {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio, "auto": math.sqrt(ratio)}[rule]


class LoaderBatch:
    """The training loader's batch size: what it was, what it is, and how to change it.

    Args:
        trainer: The trainer, whose training loader may grow.
        states: Where the loader was when the checkpoint was saved that the run goes on from.

    Attributes:
        original: Samples per batch as they were given.
        like_others: Whether the other ranks have such a loader, as far as is known.
    """

    def __init__(self, trainer: Trainer, *, states: Sequence[Any] = ()) -> None:
        self._trainer = trainer
        self._states = states
        self.original = self.current
        self.like_others = True

    @property
    def current(self) -> int:
        """Samples per batch now."""
        return int(self._sampler.batch_size)

    @property
    def most(self) -> int:
        """Samples in an epoch: a larger batch there is none."""
        return len(self._sampler.sampler)

    @property
    def ratio(self) -> float:
        """Samples per batch now over those at the start."""
        return self.current / self.original

    def resize(self, samples: int) -> None:
        """Let the epoch that starts now, and all after it, have batches of so many samples."""
        self._sampler.batch_size = samples
        renumber_epoch(self._trainer, scale=self.original / samples, states=self._states)

    def tell_progress_bar(self, module: LightningModule) -> None:
        """Let a progress bar that has read the number of batches of this epoch read it again."""
        bar: Any = self._trainer.progress_bar_callback
        if bar is not None:
            bar.on_train_epoch_start(self._trainer, module)

    def put_back(self) -> None:
        """Leave the user's loader as it was given."""
        self._sampler.batch_size = self.original

    @property
    def _sampler(self) -> Any:
        return training_loaders(self._trainer)[0].batch_sampler


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
