"""DynamicBatchSizeOptimizer: batches that memory does not hold are run in pieces, and batches grow to fill it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.failure_place import name_the_place
from lightning_automations.callbacks.growing_batches import checked_stretches
from lightning_automations.callbacks.growth_within_epoch import GrowsWithinEpoch
from lightning_automations.callbacks.loader_batch import given_batch_size
from lightning_automations.callbacks.memory_period import MemoryPeriod
from lightning_automations.callbacks.ranks import Across
from lightning_automations.callbacks.shared_sizes import ACROSS
from lightning_automations.callbacks.survival import Survival, obstacle, own_split
from lightning_automations.callbacks.watched_closure import watch_errors
from lightning_automations.core.batch_size import BatchSizeBrain, BatchSizeSettings
from lightning_automations.probes.memory import MemoryProbe, memory_probe
from lightning_automations.probes.splitting import BatchReader

__all__ = ["DynamicBatchSizeOptimizer"]


class DynamicBatchSizeOptimizer(GrowsWithinEpoch):
    """Survives out-of-memory errors of the training step, and lets the batch fill the memory.

    An out-of-memory error in the forward or backward pass of a training step does not end the run: what the step has
    changed is put back (random states, gradients, buffers, logged values, metrics) and the same batch is run in
    pieces, halved until they fit, down to ``min_batch_size``. Their losses are weighted by their samples, so that the
    gradient, the step's output and the logged values are those of the whole batch, for modules whose output for a
    sample depends on that sample alone and whose loss is a mean over samples. The size that fits is kept for the
    batches that follow. This goes on after the automation has retired.

    Every ``adjustment_frequency`` steps the peak of memory is compared with ``target_vram_usage``. Above it, batches
    are run in smaller pieces; below the band, in larger ones. Where ``effective_batch: grow`` is written, the loader's
    own batch then grows, at most to its double at once, up to ``max_batch_size``: fewer steps of more samples are
    another training, and not always a better one. It grows at the start of an epoch, and in the middle of one whose
    rest has ten decisions or more, with every sample of the epoch once. Batches that the loader's workers have drawn
    by then come first, with the rate of before.

    Where ``effective_batch: keep`` is written and the trainer accumulates gradients, the loader's batch is multiplied
    and ``accumulate_grad_batches`` divided by the same number at the start of an epoch: each optimizer step has the
    samples it had, and schedules, validations and logging steps stay. That is the same training for losses that are
    means over samples; batch normalization sees the larger batches, and ``batch_idx`` counts them. It says so and stays
    as it is where that number does not divide an epoch's batches, or the batches between validations.

    A module can say how it is split, by attributes and a method of its own:

    * ``batch_weight(batch)``: the weight of a piece (its tokens, for instance) in place of its number of samples.
    * ``loss_reduction = "sum"``: its loss is a sum; the losses of pieces are added as they are.
    * ``split_batch(batch, size)``, also of the data module: a list of pieces of at most ``size`` samples each, in their
      order, for batches of another form (ragged ones, graphs). It is also called with size 1, to count samples.
    * ``couples_samples = True``: its loss depends on which samples are together (contrastive losses); never split.

    What differs from a run that had the memory: random layers draw as in a run that started with pieces of that size;
    batch normalization sees the pieces (warned about once); ``training_step``, ``on_before_backward`` and what they
    log are called once per piece, ``on_after_backward`` and all later hooks once per batch; a piece whose training
    step returns None adds nothing and counts as samples without loss. Attributes that a training step changes outside
    of tensors, buffers and metrics are not put back. In the step's output, tensors with one entry per sample are
    concatenated, scalars averaged, mappings taken by their entries, anything else is the last piece's.

    Under DDP the rank that runs out of memory runs its batch again alone, unless gradients have been reduced since or
    the training step makes collectives of its own: then the run ends with an error that names the rank. The others
    learn of the smaller size at the next decision; all decide together. With manual optimization or another strategy
    it says so and stays out. On one device validation is run in pieces, too. An error elsewhere ends the run, and its
    message names the place.

    Args:
        settings: See ``BatchSizeSettings``.

    Logged as ``automation/dynamic_batch_size_optimizer/...``:

    * ``micro_batch_size``: samples run at once; NaN before the first batch.
    * ``batch_size``: samples of the loader's batches; NaN before the first batch.
    * ``memory_share``: peak of memory in the last period, 0 to 1; NaN where it is not known.

    Raises:
        ConfigError: If a setting is wrong.

    Example:
        >>> DynamicBatchSizeOptimizer(target_vram_usage=0.9, max_batch_size=64).settings.safety_margin
        0.05
    """

    settings_class = BatchSizeSettings
    metrics_name = "dynamic_batch_size_optimizer"
    across: ClassVar[Mapping[str, Across]] = ACROSS

    brain: BatchSizeBrain
    settings: BatchSizeSettings
    _make_probe: Callable[[torch.device], MemoryProbe | None] = staticmethod(memory_probe)

    _undo: Callable[[], None]
    _memory_share: float

    def make_brain(self, settings: BatchSizeSettings) -> BatchSizeBrain:
        return BatchSizeBrain(settings)

    # The fit ---------------------------------------------------------------------------------------------------------

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._device = pl_module.device
        why = obstacle(trainer, pl_module)
        if why is not None:
            self.note(trainer, f"stays out of this run, also if memory runs out: {why}")
            return
        self._reader = BatchReader(expected=given_batch_size(trainer), split=own_split(trainer, pl_module))
        self._read_loader(trainer, pl_module)
        self._period.probe = self._make_probe(self._device)
        if self._period.probe is not None:
            self.brain.start(self._period.probe.read().peak_share)
            self._period.reset_peak()
        if self.settings.dry_run:
            self._undo = watch_errors(trainer, partial(self.note, trainer))
        else:
            self._take_up_size(trainer)
            survival = Survival(trainer, pl_module, policy=self, reader=self._reader, guarded=self._guarded)
            self._undo = survival.remove

    def end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._undo()
        if self.awake:  # else it has failed in the middle of a run, which goes on with the counts of its loader
            self._put_loader_back()
        self._bind_nothing()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self.settings.enabled:
            self._guarded(trainer, name_the_place, exception, trainer)
        super().on_exception(trainer, pl_module, exception)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.active:
            self._guarded(trainer, self._period.keep_peak)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # What validation needs is no matter of the training batch's size.
        if self.active:
            self._guarded(trainer, self._period.reset_peak)

    # Deciding --------------------------------------------------------------------------------------------------------

    def after_batch(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        super().after_batch(trainer, pl_module, outputs, batch)
        if self.settings.dry_run and self._reader is not None:
            layout = self._reader.layout(batch, last=trainer.is_last_batch)
            if layout is not None:
                self._saw(layout.samples, layout.samples)

    def period_steps(self) -> int | None:
        return self.settings.adjustment_frequency if self._reader is not None else None

    def read(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, float]:
        return {**self._period.take(), **self._own_sizes()}

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        self._agree(trainer, readings)
        self._memory_share = readings["peak_share"]
        if readings["samples"] == 0:
            return
        step, epoch, share = trainer.global_step, trainer.current_epoch, readings["peak_share"]
        samples, batch = int(readings["samples"]), int(readings["batch"])
        adjustment = self.brain.observe(step=step, epoch=epoch, samples=samples, batch=batch, share=share)
        if adjustment is not None:
            self.adjust(trainer, adjustment, lambda: self._period.forget_peak(self._device))
        else:
            self._grow_within(trainer, readings)

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.brain.retire()

    # Asked by the closures -------------------------------------------------------------------------------------------

    def piece_size(self, samples: int) -> int:
        """Samples per piece for a batch of so many."""
        return self.brain.piece_size(samples)

    def next_size(self, trainer: Trainer, failed: int, samples: int) -> int | None:
        """The next smaller size after pieces of ``failed`` samples ran out of memory; None: there is none."""
        step, epoch = trainer.global_step, trainer.current_epoch
        adjustment = self.brain.recover(step=step, epoch=epoch, failed=failed, samples=samples)
        if adjustment is None:
            return None
        # The peak is that of the try that failed, and no size that fits needs as much.
        self.recover(trainer, adjustment, self._period.begin_anew)
        return self.brain.piece_size(samples)

    def went_well(self, size: int, samples: int) -> None:
        """A batch was run in pieces of this size."""
        self.brain.went_well(size)
        self._saw(size, samples)

    # What is logged and saved ----------------------------------------------------------------------------------------

    def values(self) -> Mapping[str, float]:
        batch = self._batch if self._loader is None else self._loader.in_use
        return {
            "micro_batch_size": math.nan if batch is None else float(self.brain.piece_size(batch)),
            "batch_size": math.nan if batch is None else float(batch),
            "memory_share": self._memory_share,
        }

    def extra_state(self) -> dict[str, Any]:
        share = None if math.isnan(self._memory_share) else self._memory_share
        return {
            "period": self._period.state_dict(),
            "batch": self._batch,
            "memory_share": share,
            "stretches": [list(item) for item in self._stretches],
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self._period = MemoryPeriod()
        self._stretches = checked_stretches(state["stretches"]) if state else []
        self._bind_nothing()
        self._batch = None
        self._memory_share = math.nan
        if state:
            self._period.load_state_dict(state["period"])
            self._batch = state["batch"]
            self._memory_share = math.nan if state["memory_share"] is None else state["memory_share"]

    # Inside ----------------------------------------------------------------------------------------------------------

    def _bind_nothing(self) -> None:
        """Forget what belongs to one fit."""
        self._reader = None
        self._loader = None
        self._accumulation = None
        self._exchanges = self._within = False
        self._period.probe = None
        self._undo = _nothing

    def _saw(self, size: int, samples: int) -> None:
        self._batch = max(self._batch or 0, samples)
        self._period.saw(size, samples)


def _nothing() -> None:
    pass
