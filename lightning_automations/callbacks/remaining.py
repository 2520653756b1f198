"""How many optimizer steps a run has left."""

from __future__ import annotations

import math

from lightning.pytorch import Trainer

__all__ = ["steps_that_remain"]


def steps_that_remain(trainer: Trainer) -> int | None:
    """Optimizer steps until the end of the run, at least 1; None where no end is known.

    Within an epoch they are counted from the epochs and batches that are left: Lightning's estimate of the whole run
    takes all epochs to be as long as this one, and the earlier ones were longer if the batch has grown since.
    """
    left = trainer.estimated_stepping_batches - trainer.global_step
    epoch = trainer.fit_loop.epoch_progress.current
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    if epoch.ready > trainer.current_epoch and epochs is not None and epochs > 0 and math.isfinite(batches):
        steps = math.ceil(batches / trainer.accumulate_grad_batches)
        ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # The last group of an epoch may be short, and is stepped all the same.
        done = steps if ready >= batches else ready // trainer.accumulate_grad_batches
        left = steps * (epochs - trainer.current_epoch) - done
        if trainer.max_steps >= 0:
            left = min(left, trainer.max_steps - trainer.global_step)
    return max(int(left), 1) if math.isfinite(left) else None
