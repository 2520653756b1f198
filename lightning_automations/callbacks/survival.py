"""Put in place for a fit: an out-of-memory error in a training step is survived."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lightning_automations.callbacks.failure_place import UNCLEAR_BATCH, explain, outside_of_step
from lightning_automations.callbacks.processes import processes_of, strategy_obstacle
from lightning_automations.callbacks.splitting_closure import SplittingClosure
from lightning_automations.callbacks.weighted_losses import drop_term_graphs
from lightning_automations.lightning_internals import LoggedResults, replace_closures
from lightning_automations.probes.out_of_memory import is_out_of_memory
from lightning_automations.probes.rewinding import ModuleBuffers, ModuleMetrics, RandomStates
from lightning_automations.probes.splitting import BatchReader, Layout, Split

__all__ = ["Preparation", "SplitPolicy", "Survival", "obstacle", "own_split"]

log = logging.getLogger(__name__)

_BATCH_NORMALIZATION = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class SplitPolicy(Protocol):
    """Decides how large the pieces of a batch are."""

    def piece_size(self, samples: int) -> int:
        """Samples per piece for a batch of so many."""

    def next_size(self, trainer: Trainer, failed: int, samples: int) -> int | None:
        """What to try after pieces of ``failed`` samples ran out of memory; None: nothing is left to try."""

    def went_well(self, size: int, samples: int) -> None:
        """A batch was run in pieces of this size."""


def obstacle(trainer: Trainer, module: LightningModule) -> str | None:
    """Why a batch of this fit cannot be run again in pieces, or None when it can."""
    if not module.automatic_optimization:
        return "the module optimizes manually"
    why = strategy_obstacle(trainer, module)
    if why is not None:
        return why
    if "dataloader_iter" in inspect.signature(module.training_step).parameters:
        return "the training step takes its batches from an iterator (dataloader_iter)"
    if getattr(module, "couples_samples", False):
        return "the module says that its loss couples the samples of a batch (couples_samples)"
    return None


def own_split(trainer: Trainer, module: LightningModule) -> Split | None:
    """The ``split_batch`` of the module, else of its data module; None where neither has one."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    split: Split | None = getattr(module, "split_batch", None) or getattr(datamodule, "split_batch", None)
    return split


@dataclass(kw_only=True)
class Preparation:
    """What is known before a step is run.

    Args:
        random_states: The random generators.
        logged: What has been logged so far.
        layout: How the batch can be cut; None: it cannot.
        size: Samples per piece; None with the layout.
    """

    random_states: RandomStates
    logged: LoggedResults
    layout: Layout | None
    size: int | None


class Survival:
    """Replaces the closures of a fit by ones that split, until ``remove``.

    Args:
        trainer: The trainer, at its start of training.
        module: Its module. ``batch_weight(batch)``, where it has one, gives the weight of a piece in place of its
            number of samples; ``loss_reduction = "sum"`` says that its losses are sums and add up as they are.
        policy: Decides the size of the pieces.
        reader: Knows how batches are cut.
        guarded: Calls a function and returns None when it fails unexpectedly.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        *,
        policy: SplitPolicy,
        reader: BatchReader,
        guarded: Callable[..., Any],
    ) -> None:
        self.trainer = trainer
        self.policy = policy
        self.reader = reader
        self.device = module.device
        self._module = module
        self._guarded = guarded
        self._buffers = ModuleBuffers(module)
        self._metrics = ModuleMetrics(module)
        self.processes = processes_of(trainer, module, self._buffers)
        self._current: SplittingClosure | None = None
        self._broken = False
        self._warned = False
        self._removals = [
            replace_closures(
                trainer, lambda closure, keywords, optimizer: SplittingClosure(self, closure, keywords, optimizer)
            ),
            self._hold_back_hooks(),
            self.processes.remove,
        ]

    def remove(self) -> None:
        """Put back what was replaced."""
        for removal in self._removals:
            removal()
        self._removals = []

    # Asked by the closure --------------------------------------------------------------------------------------------

    @contextmanager
    def running(self, closure: SplittingClosure) -> Iterator[None]:
        """While this closure runs, gradients that are complete are reported to it."""
        self._current = closure
        self.processes.begin()
        try:
            yield
        finally:
            self.processes.end()
            self._current = None

    def prepare(self, batch: Any) -> Preparation | None:
        """Remember all that the step is about to change; None where that is not possible any more."""
        if self._broken:
            return None
        prepared: Preparation | None = self._guarded(self.trainer, self._prepare, batch)
        self._broken = prepared is None
        return prepared

    def put_back(self) -> None:
        """Put back what belongs to the module."""
        drop_term_graphs(self._module)
        self._buffers.put_back()
        self._metrics.put_back()

    def went_well(self, size: int, samples: int) -> None:
        """A batch was run in pieces of this size; warns once where batch normalization has seen them."""
        if not self.processes.may_split:
            return  # what is seen of such batches must lead to no decision
        self._guarded(self.trainer, self.policy.went_well, size, samples)
        if size < samples and not self._warned:
            self._warned = True
            if any(isinstance(child, _BATCH_NORMALIZATION) and child.training for child in self._module.modules()):
                log.warning(
                    "Batches are run in pieces, and the module uses batch normalization, which sees one piece at a "
                    "time: its statistics differ from those of whole batches."
                )

    def weights(self, pieces: Sequence[Any], samples: Sequence[int]) -> tuple[list[float], list[float]]:
        """Each piece's share of the batch, and the factor of its loss."""
        weigh = getattr(self._module, "batch_weight", None)
        own = [float(weigh(piece)) for piece in pieces] if weigh is not None else [float(count) for count in samples]
        if not 0 < math.fsum(own) < math.inf:
            own = [float(count) for count in samples]
        shares = [weight / math.fsum(own) for weight in own]
        if getattr(self._module, "loss_reduction", "mean") == "sum":
            return shares, [1.0] * len(shares)
        return shares, shares

    def refuse_where_others_wait(self, error: BaseException) -> None:
        """Raise ``error``, with the reason in its message, where the batch cannot be run again beside other ranks.

        Raises:
            BaseException: ``error``.
        """
        refusal = self.processes.refusal()
        if refusal is not None:
            explain(error, refusal)
            raise error

    def refuse_elsewhere(self, error: BaseException) -> None:
        """Raise ``error``, with the place in its message, where it arose in a callback or another hook of the step.

        Raises:
            BaseException: ``error``.
        """
        place = outside_of_step(error, self.trainer)
        if place is not None:
            explain(error, place)
            raise error

    def refuse_pieces(
        self, first: BaseException | None, error: BaseException, size: int | None, layout: Layout | None
    ) -> None:
        """Let an error of another kind that arose in a piece not hide that memory had run out before.

        Raises:
            BaseException: ``first``, the out-of-memory error of this batch, where there was one.
        """
        if layout is None or size is None or size >= layout.samples or is_out_of_memory(error):
            return
        if first is None:
            log.error(
                "%s arose in a batch of %d samples that is run in pieces of at most %d, since larger ones ran out of "
                "memory.",
                type(error).__name__,
                layout.samples,
                size,
            )
            return
        explain(
            first,
            f"The batch of {layout.samples} samples was also tried in pieces of at most {size}, where something else "
            f"failed. {type(error).__name__}: {error}",
        )
        raise first from error

    def next_size(self, error: BaseException, size: int | None, layout: Layout | None) -> int:
        """The size to try next.

        Raises:
            BaseException: ``error``, with what was tried in its message, when nothing is left to try.
        """
        if layout is None or size is None:
            explain(error, UNCLEAR_BATCH)
            raise error
        smaller: int | None = self._guarded(self.trainer, self.policy.next_size, self.trainer, size, layout.samples)
        if smaller is None:
            explain(error, f"The batch of {layout.samples} samples was also tried in pieces, down to {size}.")
            raise error
        return smaller

    def run_held_back(self, loss: Tensor) -> None:
        """Run the hooks that come after a backward pass, once for all pieces."""
        self._post_backward(loss, self._module)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _prepare(self, batch: Any) -> Preparation:
        if not self.processes.exchanges_buffers:
            self._buffers.keep()
        self._metrics.keep()
        may_split = self.processes.may_split
        layout = self.reader.layout(batch, last=self.trainer.is_last_batch) if may_split else None
        return Preparation(
            random_states=RandomStates(self.device),
            logged=LoggedResults(self.trainer),
            layout=layout,
            size=self.policy.piece_size(layout.samples) if layout is not None else None,
        )

    def _hold_back_hooks(self) -> Callable[[], None]:
        precision: Any = self.trainer.strategy.precision_plugin
        self._post_backward = precision.post_backward
        before = precision.__dict__.get("post_backward")

        def post_backward(tensor: Tensor, module: Any) -> Tensor:
            if self._current is not None and not self._current.after_backward(tensor):
                return tensor.detach()
            result: Tensor = self._post_backward(tensor, module)
            return result

        def put_back() -> None:
            if before is None:
                del precision.post_backward
            else:
                precision.post_backward = before

        precision.post_backward = post_backward
        return put_back
