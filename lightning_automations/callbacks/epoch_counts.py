"""How many batches an epoch has, and where it is validated, when its batches have another size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning.pytorch import Trainer

__all__ = ["EpochCounts", "epoch_counts"]


@dataclass(frozen=True, kw_only=True)
class EpochCounts:
    """The counts of one epoch.

    Args:
        batches: Its batches.
        validate_every: Batches between two validations; infinite: only at its end; None: by the clock.
    """

    batches: int
    validate_every: float | None

    def times(self, factor: int) -> EpochCounts:
        """The counts of batches that are cut into so many."""
        every = self.validate_every
        return EpochCounts(batches=self.batches * factor, validate_every=None if every is None else every * factor)


def epoch_counts(trainer: Trainer, *, length: int, given: int, size: int) -> EpochCounts:
    """The counts of an epoch with batches of another size.

    Limits and validation intervals that were given as a number of batches stand for so many samples: they are scaled
    and rounded up.

    Args:
        trainer: The trainer, whose training data are one loader with a length.
        length: The loader's batches at the size.
        given: Samples per batch as the loader was given.
        size: Samples per batch.
    """
    limit, interval = trainer.limit_train_batches, trainer.val_check_interval
    if isinstance(limit, int):
        batches = min(length, -(-limit * given // size))
    else:
        batches = max(1, int(length * limit))
    every: float | None = trainer.val_check_batch
    if isinstance(interval, int):
        every = max(1, -(-interval * given // size))
        every = every if trainer.check_val_every_n_epoch is None else min(every, batches)
    elif every is not None and not math.isinf(every):
        every = max(1, int(batches * interval))
    return EpochCounts(batches=batches, validate_every=every)
