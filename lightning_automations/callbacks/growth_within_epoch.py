"""What the batch-size automation does with the loader's batch in the middle of a long epoch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.growing_batches import Stretches
from lightning_automations.callbacks.loader_batch import LoaderBatch
from lightning_automations.callbacks.loader_changes import ChangesLoader
from lightning_automations.callbacks.loader_obstacles import obstacle_within_epoch
from lightning_automations.callbacks.remaining import steps_that_remain
from lightning_automations.callbacks.shared_sizes import grow_together, same_place
from lightning_automations.lightning_internals import starts_epoch_silently

__all__ = ["GrowsWithinEpoch"]


class GrowsWithinEpoch(ChangesLoader):
    """Lets the loader's batch grow between two batches, where the rest of the epoch is long."""

    # Kept in checkpoints.
    _stretches: Stretches
    # Of one fit.
    _within: bool

    def after_batch(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        self._follow_size(trainer)

    def after_batch_retired(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._follow_size(trainer)

    def _read_loader(self, trainer: Trainer, module: LightningModule) -> None:
        super()._read_loader(trainer, module)
        loader = self._loader
        self._within = False
        if loader is None or self.settings.dry_run:
            return
        if starts_epoch_silently(trainer) or self._reached() < loader.current:
            self._stretches.clear()  # of another epoch, or of a loader with smaller batches
        if not self._stretches and not self._may_grow_within(trainer, loader):
            return
        why = obstacle_within_epoch(trainer)
        if why is not None:
            self.note(trainer, f"the loader's batch grows between epochs only: {why}")
            return
        self._within = True
        loader.let_grow_within(self._stretches)
        if self._reached() <= loader.current:
            loader.resize(loader.current)  # the iterator that Lightning has made draws in torch's own way

    def _may_grow_within(self, trainer: Trainer, loader: LoaderBatch) -> bool:
        if self.settings.effective_batch != "grow" or loader.current >= self.settings.max_batch_size:
            return False
        return self.brain.epoch_is_long(int(trainer.num_training_batches // trainer.accumulate_grad_batches))

    def _begin_epoch(self, trainer: Trainer) -> None:
        if self._within and self._loader is not None:
            self._loader.let_grow_within(self._stretches)  # a loader may have been made anew
            self._loader.begin_epoch()
        else:
            self._stretches.clear()
        super()._begin_epoch(trainer)

    def _grow_within(self, trainer: Trainer, readings: Mapping[str, float]) -> None:
        """One more decision at a decision point, on all ranks with the same readings."""
        loader = self._loader
        if not self._within or self.settings.effective_batch != "grow" or loader is None or not same_place(readings):
            return
        if not grow_together(loader, readings, tell=partial(self.note, trainer)):
            return
        left = steps_that_remain(trainer)  # of the run, which max_steps may end before its epoch
        if not self.brain.rest_is_long(loader.steps_left if left is None else min(loader.steps_left, left)):
            return
        adjustment = self.brain.grow(
            step=trainer.global_step, epoch=trainer.current_epoch, batch=loader.current, most=loader.most
        )
        if adjustment is None:
            return

        def apply() -> None:
            loader.grow_within(int(str(adjustment.new)))
            self._period.forget_peak(self._device)
            self._follow_size(trainer)

        self.adjust(trainer, adjustment, apply)

    def _follow_size(self, trainer: Trainer) -> None:
        """Those that were drawn before a growth come first; the rate changes with the first batch of the new size."""
        if self._within and self._loader is not None and self._loader.in_use != self._followed:
            self._use_grown_size(trainer, self._loader)
