"""What the batch-size automation does with the loader's own batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.accumulation import ACCUMULATION_LEFT_ALONE, Accumulation
from lightning_automations.callbacks.loader_batch import LEFT_ALONE, LoaderBatch, rate_factor
from lightning_automations.callbacks.loader_obstacles import accumulates, exchange_obstacle, growth_obstacle
from lightning_automations.callbacks.memory_period import MemoryPeriod
from lightning_automations.callbacks.shared_sizes import grow_together, own_sizes
from lightning_automations.callbacks.validation_recovery import SplitsValidation
from lightning_automations.core.batch_size import BatchSizeBrain
from lightning_automations.core.decision import Adjustment
from lightning_automations.core.events import Event, EventKind
from lightning_automations.lightning_internals import loader_states, resumes_begun_epoch, starts_epoch_silently
from lightning_automations.probes.splitting import BatchReader

__all__ = ["ChangesLoader"]


class ChangesLoader(SplitsValidation):
    """Lets the loader's batch grow, or take the place of accumulation, at the start of an epoch."""

    brain: BatchSizeBrain

    # Of one fit; None where it is not known or has no use.
    _device: torch.device
    _reader: BatchReader | None
    _loader: LoaderBatch | None
    _followed: int
    """The loader's batch that the learning rate follows."""
    _accumulation: Accumulation | None
    _exchanges: bool
    """Whether that is wanted: the same on every rank, also on one whose loader cannot be changed."""
    _loader_states: Sequence[Any] = ()
    # Kept in checkpoints.
    _period: MemoryPeriod
    _batch: int | None

    # The fit ---------------------------------------------------------------------------------------------------------

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loader_states = loader_states(checkpoint)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self._reader is not None and starts_epoch_silently(trainer):
            self._decide_on_loader(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._reader is None or resumes_begun_epoch(trainer):
            return
        before = trainer.num_training_batches
        if not self.settings.dry_run:
            self._guarded(trainer, self._begin_epoch, trainer)
        self._decide_on_loader(trainer, pl_module)
        if self._loader is not None and trainer.num_training_batches != before:
            self._loader.tell_progress_bar(pl_module)

    def _read_loader(self, trainer: Trainer, module: LightningModule) -> None:
        """Find out what can be changed, and say why what is wanted cannot be."""
        written = "effective_batch" in self._written and self.settings.effective_batch == "keep"
        self._exchanges = written and accumulates(trainer)
        if self._exchanges:
            self._read_accumulation(trainer, module)
            return
        why, tell = growth_obstacle(trainer), partial(self.note, trainer)
        if why is None:
            self._loader = LoaderBatch(trainer, states=self._loader_states)
            self._followed = self._loader.current
            if "effective_batch" not in self._written and self._loader.current < self.settings.max_batch_size:
                tell(f"{LEFT_ALONE}: it grows only where effective_batch: grow is written")
        elif self.settings.effective_batch == "grow":
            tell(f"{LEFT_ALONE}: {why}")

    def _read_accumulation(self, trainer: Trainer, module: LightningModule) -> None:
        state, why = self.brain.state, exchange_obstacle(trainer, module)
        if why is None and state.loader_batch is not None and state.samples_per_step is None:
            why = "the loader's batch has grown in an earlier part of this run"
            self._loader = LoaderBatch(trainer, states=self._loader_states)
        elif why is None:
            self._loader = LoaderBatch(trainer, states=self._loader_states)
            self._accumulation = Accumulation(trainer, self._loader, most=self.settings.max_batch_size)
            if len(self._accumulation.sizes()) == 1:
                why = (
                    f"no batch of up to max_batch_size ({self.settings.max_batch_size}) samples divides what an "
                    "optimizer step, an epoch and a validation interval have, so that each step keeps its samples"
                )
        if why is not None:
            self.note(trainer, f"{ACCUMULATION_LEFT_ALONE}: {why}")

    def _begin_epoch(self, trainer: Trainer) -> None:
        """An epoch begins that no run before has begun."""
        self._take_up_size(trainer)

    def _put_loader_back(self) -> None:
        if self._accumulation is not None:
            self._accumulation.put_back()
        if self._loader is not None:
            self._loader.put_back()
        self._loader_states = ()

    # Deciding --------------------------------------------------------------------------------------------------------

    def _decide_on_loader(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # On every rank, also on one whose loader cannot be changed.
        if self._exchanges:
            self.decide_together(trainer, pl_module, read=self._own_sizes, decide=self._consider_exchange)
        elif self.settings.effective_batch == "grow":
            self.decide_together(trainer, pl_module, read=self._own_sizes, decide=self._consider_growth)

    def _own_sizes(self, *_: Any) -> Mapping[str, float]:
        changeable = self._accumulation is not None or not self._exchanges
        return own_sizes(self.brain, self._loader if changeable else None)

    def _consider_growth(self, trainer: Trainer, _: LightningModule, readings: Mapping[str, float]) -> None:
        self._agree(trainer, readings)
        loader = self._loader
        if loader is None or not grow_together(loader, readings, tell=partial(self.note, trainer)):
            return
        adjustment = self.brain.grow(
            step=trainer.global_step, epoch=trainer.current_epoch, batch=loader.current, most=loader.most
        )
        if adjustment is None:
            return

        def apply() -> None:
            loader.resize(int(str(adjustment.new)))
            self._period.forget_peak(self._device)
            self._use_grown_size(trainer, loader)

        self.adjust(trainer, adjustment, apply)

    def _consider_exchange(self, trainer: Trainer, _: LightningModule, readings: Mapping[str, float]) -> None:
        self._agree(trainer, readings)
        loader, accumulation = self._loader, self._accumulation
        if loader is None or accumulation is None or accumulation.left_to_others(partial(self.note, trainer)):
            return
        sizes = accumulation.sizes()
        if len(sizes) == 1 or not grow_together(loader, readings, tell=partial(self.note, trainer)):
            return
        adjustment = self.brain.exchange(
            step=trainer.global_step,
            epoch=trainer.current_epoch,
            batch=loader.current,
            sizes=sizes,
            samples_per_step=accumulation.samples_per_step,
        )
        if adjustment is not None:
            self.adjust(trainer, adjustment, partial(self._exchange, accumulation, adjustment))

    def _agree(self, trainer: Trainer, readings: Mapping[str, float]) -> None:
        step, epoch = trainer.global_step, trainer.current_epoch
        adjustment = self.brain.agree(step=step, epoch=epoch, batch=self._batch, shared=readings)
        if adjustment is not None:
            self.recover(trainer, adjustment, lambda: self._period.forget_peak(self._device))

    # Carrying out ----------------------------------------------------------------------------------------------------

    def _take_up_size(self, trainer: Trainer) -> None:
        """A resumed run, and a loader that was made anew, go on with the size that was reached, within the settings."""
        state, loader = self.brain.state, self._loader
        if state.samples_per_step is not None:
            self._take_up_exchange()
        elif loader is not None and self._reached() > loader.current:
            loader.resize(self._reached())
            self._use_size(loader)

    def _reached(self) -> int:
        """The size that the loader's batch has grown to, within the settings; 0: it has not."""
        return min(self.brain.state.loader_batch or 0, self.settings.max_batch_size)

    def _take_up_exchange(self) -> None:
        state, accumulation = self.brain.state, self._accumulation
        same = accumulation is not None and accumulation.samples_per_step == state.samples_per_step
        if same and accumulation is not None and state.loader_batch is not None:
            same = accumulation.take_up(state.loader_batch)
        if same:
            self._expect_batches()
        else:
            state.loader_batch = state.samples_per_step = None

    def _exchange(self, accumulation: Accumulation, adjustment: Adjustment) -> None:
        accumulation.bring_to(accumulation.samples_per_step // int(str(adjustment.new)))
        self._expect_batches()
        self._period.forget_peak(self._device)

    def _use_size(self, loader: LoaderBatch) -> None:
        """The next batch of the loader has another size."""
        self._followed = loader.in_use
        self._expect_batches()
        self.session.rate.set_factor("batch_size", rate_factor(loader.ratio, self.settings.lr_scaling))

    def _use_grown_size(self, trainer: Trainer, loader: LoaderBatch) -> None:
        """The same in the middle of a run: the other automations are told."""
        before = self._followed
        self._use_size(loader)
        event = Event(kind=EventKind.BATCH_CHANGED, step=trainer.global_step, ratio=self._followed / before)
        self.session.announce(trainer, event, source=self)

    def _expect_batches(self) -> None:
        if self._reader is not None and self._loader is not None:
            self._reader.expect(self._loader.in_use)
