"""The batch size of the training loader, changed in place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import BatchSampler

from lightning_automations.callbacks.epoch_counts import EpochCounts, epoch_counts
from lightning_automations.callbacks.growing_batches import GrowingBatches, Stretches
from lightning_automations.callbacks.progress_bar import retell_total
from lightning_automations.lightning_internals import recount_epoch, renew_iterator, training_loaders

__all__ = ["LEFT_ALONE", "LoaderBatch", "given_batch_size", "rate_factor"]

LEFT_ALONE = "the loader's batch is left as it is"
"""The beginning of what is said where a loader does not grow."""


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
        """Samples per batch as they are drawn from the sampler now."""
        return int(self._sampler.batch_size)

    @property
    def in_use(self) -> int:
        """Samples in the batch that is trained next: those drawn before a growth keep their size."""
        sampler = self._sampler
        if isinstance(sampler, GrowingBatches):
            return sampler.size_at(self._trainer.fit_loop.batch_idx + 1)
        return self.current

    @property
    def most(self) -> int:
        """Samples in an epoch: a larger batch there is none."""
        return len(self._sampler.sampler)

    @property
    def ratio(self) -> float:
        """Samples in the next batch over those at the start."""
        return self.in_use / self.original

    @property
    def free(self) -> int:
        """Number of the first batch of this epoch that begins an optimizer step and is not drawn yet; 0: unknown.

        A loader draws so many batches ahead of those that it has given; all ranks alike, if their loaders are.
        """
        sampler, loader = self._sampler, training_loaders(self._trainer)[0]
        if not isinstance(sampler, GrowingBatches):
            return 0
        ahead = self._trainer.fit_loop.batch_idx + 1 + loader.num_workers * (loader.prefetch_factor or 0)
        accumulated = self._trainer.accumulate_grad_batches
        return int(-(-max(sampler.drawn, ahead) // accumulated) * accumulated)

    @property
    def steps_left(self) -> int:
        """Optimizer steps of this epoch from the batch ``free`` on, with batches as they are."""
        return (len(self._sampler) - self.free) // self._trainer.accumulate_grad_batches

    def counts_at(self, samples: int) -> EpochCounts:
        """The counts of an epoch with batches of so many samples."""
        sampler, now = self._sampler, self.current
        sampler.batch_size = samples
        length = len(sampler)
        sampler.batch_size = now
        return epoch_counts(self._trainer, length=length, given=self.original, size=samples)

    def resize(self, samples: int) -> None:
        """Let the epoch that starts now, and all after it, have batches of so many samples."""
        self._sampler.batch_size = samples
        self._recount()
        renew_iterator(self._trainer, states=self._states)

    def let_grow_within(self, stretches: Stretches) -> None:
        """Let batches become larger within an epoch, too.

        Args:
            stretches: Those of this epoch; kept as the list that it is.
        """
        sampler = self._sampler
        if type(sampler) is BatchSampler:
            # An ordinary loader starts anew in an epoch that is resumed.
            begun = 0 if self._states else self._trainer.fit_loop.batch_idx + 1
            GrowingBatches.grow_from(sampler, stretches, offset=begun)

    def begin_epoch(self) -> None:
        """Forget the stretches of the epoch before."""
        sampler = self._sampler
        if isinstance(sampler, GrowingBatches) and (sampler.stretches or sampler.offset):
            sampler.stretches.clear()
            sampler.offset = 0
            self.resize(self.current)

    def grow_within(self, samples: int) -> None:
        """Let the batches of this epoch that are not drawn yet, and all after it, have so many samples."""
        sampler = self._sampler
        sampler.stretches.append((self.free, self.current))
        sampler.batch_size = samples
        self._recount()
        retell_total(self._trainer)

    def tell_progress_bar(self, module: LightningModule) -> None:
        """Let a progress bar that has read the number of batches of this epoch read it again."""
        bar: Any = self._trainer.progress_bar_callback
        if bar is not None:
            bar.on_train_epoch_start(self._trainer, module)

    def put_back(self) -> None:
        """Leave the user's loader as it was given."""
        sampler = self._sampler
        sampler.batch_size = self.original
        if isinstance(sampler, GrowingBatches):
            sampler.give_back()

    def _recount(self) -> None:
        counts = self.counts_at(self.current)
        recount_epoch(self._trainer, batches=counts.batches, validate_every=counts.validate_every)

    @property
    def _sampler(self) -> Any:
        return training_loaders(self._trainer)[0].batch_sampler
