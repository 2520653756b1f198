"""What a training step that is run again must keep to, where several processes train together by DDP.

The ranks meet in collectives: DDP's broadcast of buffers before a synchronised forward pass, and one reduction for
each bucket of gradients in its backward pass. A rank that runs out of memory runs its batch again by itself, so it has
to end with the collectives of a rank that had memory enough:

1. Collectives are counted, where the training step begins and where it failed. None in between: nobody has noticed.
2. All pieces but the last run under ``no_sync``; the last one carries the sum of all gradients into the reduction.
3. Buffers that were broadcast are not broadcast again, and are put back to what the broadcast brought.
4. A backward pass that failed before its first bucket leaves DDP waiting; that is undone (``forget_reduction``).
5. After the first bucket, or where the training step makes collectives of its own, the run ends with an error that
   names the rank. The others then fail in their collective, since this one is gone, or their launcher ends them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_automations.probes.reduction import (
    collectives_made,
    counts_collectives,
    forget_reduction,
    wrapper_obstacle,
)
from lightning_automations.probes.rewinding import ModuleBuffers

__all__ = ["OneProcess", "Processes", "SeveralProcesses", "processes_of", "strategy_obstacle"]

log = logging.getLogger(__name__)

_OWN = (
    "the training step makes collectives of its own (self.log with on_step and sync_dist, all_gather, a metric that is "
    "computed in the step)"
)


class Processes(Protocol):
    """Keeps the steps of this process in time with those of the others."""

    @property
    def synchronizes(self) -> bool:
        """Whether the gradients of the batch that runs now are reduced over the ranks in its backward pass."""

    @property
    def exchanges_buffers(self) -> bool:
        """Whether the ranks exchange the module's buffers before the next training step; they are kept only then."""

    @property
    def may_split(self) -> bool:
        """Whether the training step is one that can be run several times."""

    def begin(self) -> None:
        """A batch is about to be run."""

    def end(self) -> None:
        """The batch is done, well or not."""

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Training step and backward pass of every piece but the last run in here; the others notice nothing.

        Raises:
            RuntimeError: If they have noticed.
        """

    def whole_step_done(self) -> None:
        """The training step of a whole batch is done; its backward pass follows."""

    def piece_step_done(self) -> None:
        """The training step of a piece is done; its backward pass follows.

        Raises:
            RuntimeError: If the other ranks have noticed.
        """

    def refusal(self) -> str | None:
        """Why the batch that has just failed cannot be run again, or None when it can."""

    def run_again(self) -> None:
        """The batch is about to be run again."""

    def remove(self) -> None:
        """Take away what was put in place."""


def strategy_obstacle(trainer: Trainer, module: LightningModule) -> str | None:
    """Why a batch cannot be run again under the strategy of this fit, or None when it can."""
    wrapper = trainer.strategy.model
    if isinstance(wrapper, DistributedDataParallel):
        if any(isinstance(child, nn.SyncBatchNorm) for child in module.modules()):
            return "batch normalization is synchronised over the ranks (SyncBatchNorm), in every forward pass"
        if not counts_collectives():
            return "the backend of the process group does not count its collectives"
        return wrapper_obstacle(wrapper)
    if any(kind.__name__ == "SingleDeviceStrategy" for kind in type(trainer.strategy).__mro__):
        return None
    return f"the strategy is {type(trainer.strategy).__name__}"


def processes_of(trainer: Trainer, module: LightningModule, buffers: ModuleBuffers) -> Processes:
    """What the steps of this fit have to keep to; ``buffers`` are those of the module."""
    wrapper = trainer.strategy.model
    if isinstance(wrapper, DistributedDataParallel):
        return SeveralProcesses(trainer, module, wrapper, buffers)
    return OneProcess()


class OneProcess:
    """Nobody else to keep time with."""

    synchronizes = False
    exchanges_buffers = False
    may_split = True

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass

    @contextmanager
    def apart(self) -> Iterator[None]:
        yield

    def whole_step_done(self) -> None:
        pass

    def piece_step_done(self) -> None:
        pass

    def refusal(self) -> str | None:
        return None

    def run_again(self) -> None:
        pass

    def remove(self) -> None:
        pass


class SeveralProcesses:
    """Ranks that train together by DDP.

    Args:
        trainer: The trainer.
        module: Its module.
        wrapper: DDP around the module.
        buffers: Keeps the module's buffers; told to once the ranks have exchanged them.
    """

    def __init__(
        self, trainer: Trainer, module: LightningModule, wrapper: DistributedDataParallel, buffers: ModuleBuffers
    ) -> None:
        self._trainer = trainer
        self._wrapper = wrapper
        self._buffers = buffers
        self._own_collectives = False
        self._runs = False
        self._entered = False
        self._armed = False  # whether DDP waits for gradients: from the end of a synchronised step on
        self._made = 0
        # Between DDP's own collectives and the training step, which Lightning runs as the module's forward.
        self._hook = module.register_forward_pre_hook(self._enter)

    @property
    def synchronizes(self) -> bool:
        return bool(self._wrapper.require_backward_grad_sync)

    @property
    def exchanges_buffers(self) -> bool:
        return bool(self._wrapper.will_sync_module_buffers())  # type: ignore[no-untyped-call]

    @property
    def may_split(self) -> bool:
        return not self._own_collectives

    def begin(self) -> None:
        self._runs, self._entered, self._armed = True, False, False

    def end(self) -> None:
        self._runs = False

    @contextmanager
    def apart(self) -> Iterator[None]:
        with self._wrapper.no_sync():
            yield
        self._refuse_collectives()

    def whole_step_done(self) -> None:
        if not self._own_collectives and collectives_made() != self._made:
            self._own_collectives = True
            if self._trainer.is_global_zero:
                log.info("Batches are left as they are, also if memory runs out: %s.", _OWN)
        self._armed = self.synchronizes

    def piece_step_done(self) -> None:
        self._refuse_collectives()
        self._armed = self.synchronizes

    def refusal(self) -> str | None:
        rank = f"on rank {self._trainer.global_rank}"
        if not self._entered:
            return f"Memory ran out {rank} while DDP prepared the forward pass: the batch is not run again."
        if self._own_collectives:
            return f"Memory ran out {rank}, where a batch is not run again in pieces: {_OWN}."
        if collectives_made() != self._made:
            if not self._armed:
                return f"Memory ran out {rank} after a collective of the training step, so it is not run again: {_OWN}."
            return (
                f"Memory ran out {rank} in the backward pass, after the first gradients were reduced over the ranks: "
                "the others wait for the rest, so the batch is not run again. Use a smaller batch_size, a smaller "
                "target_vram_usage, or DDPStrategy(bucket_cap_mb=...) with a bucket that holds all gradients: they are "
                "then reduced at the end of the backward pass."
            )
        if self._armed and self._wrapper.find_unused_parameters and self._trainer.accumulate_grad_batches > 1:
            return (
                f"Memory ran out {rank} in the backward pass: with find_unused_parameters and accumulation DDP forgets "
                "which parameters the earlier batches have used, so the batch is not run again."
            )
        return None

    def run_again(self) -> None:
        if not self._trainer.is_global_zero:  # whose journal tells of its own
            log.info("Memory ran out on rank %d; its batch is run again in smaller pieces.", self._trainer.global_rank)
        # The ranks have exchanged the buffers; the others do not do it again.
        self._wrapper.require_forward_param_sync = False
        if self._armed:
            forget_reduction(self._wrapper)
        self._armed = False

    def remove(self) -> None:
        self._hook.remove()

    def _enter(self, *_: Any) -> None:
        if not self._runs or self._entered:
            return  # the module calls itself, or a piece follows another
        self._entered = True
        self._made = collectives_made()
        if self.exchanges_buffers:
            self._buffers.keep()

    def _refuse_collectives(self) -> None:
        if collectives_made() != self._made:
            self._own_collectives = True
            raise RuntimeError(
                f"A batch was run in pieces on rank {self._trainer.global_rank}, but {_OWN}, which the other ranks "
                "would not answer once per piece. Let it make none, or set couples_samples = True on the module, so "
                "that its batches are never split."
            )
