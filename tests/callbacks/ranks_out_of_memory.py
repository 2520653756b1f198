"""Training on two ranks of which one runs out of memory, in a chosen place of a chosen step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_automations import DynamicBatchSizeOptimizer
from lightning_automations.probes.reduction import collectives_made
from tests.callbacks.helpers import FEATURES, make_trainer, regression_data, weights
from tests.callbacks.memory_helpers import FailsInBackward

ONE_BUCKET, MANY_BUCKETS = 25, 0.0001
"""Megabytes in a bucket: room for all gradients of the network, and for one of its layers at most."""
SAMPLES, BATCH, FITS = 40, 5, 2


class OnOneRank(pl.LightningModule):
    """A small network on whose last rank a step holds only so many samples.

    Args:
        place: ``before`` (in DDP's part of the forward pass), ``forward``, or the place of the layer before which
            memory runs out in the backward pass, which comes to the last layer first.
        steps: The batches of an epoch in which a step holds only ``FITS`` samples.
        calls: In place of ``steps``, the calls of the training step, pieces counted, that fail whatever their size.
        unused: Whether there are parameters that no step uses.
        together: Whether the training step makes a collective of its own.
    """

    def __init__(
        self,
        place: str | int = "forward",
        *,
        steps: Iterable[int] = range(100),
        calls: Iterable[int] | None = None,
        unused: bool = False,
        together: bool = False,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(FEATURES, 8), nn.Linear(8, 8), nn.Linear(8, 1)])
        self.unused = nn.Linear(2, 2) if unused else None
        self.register_buffer("shift", torch.zeros(1))
        self.place = place
        self.steps = frozenset(steps)
        self.calls = None if calls is None else frozenset(calls)
        self.called = 0
        self.together = together
        self.failures = 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        values, targets = batch
        fails = self._fails(batch_idx, len(values))
        self.failures += fails
        for place, layer in enumerate(self.layers):
            if fails and place == self.place:
                values.requires_grad_()
                values = FailsInBackward.apply(values)
            values = torch.tanh(layer(values)) if place < 2 else layer(values)
        if fails and self.place == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.together:
            torch.distributed.all_reduce(values.detach().mean())
        if fails and self.place == len(self.layers):
            values = FailsInBackward.apply(values)
        loss = nn.functional.mse_loss(values + self.shift, targets)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def _fails(self, batch_idx: int, samples: int) -> bool:
        self.called += 1
        if self.global_rank != self.trainer.world_size - 1:
            return False
        if self.calls is not None:
            return self.called - 1 in self.calls
        return batch_idx in self.steps and samples > FITS

    def on_train_start(self) -> None:
        if self.place == "before":
            self.trainer.strategy.model.register_forward_pre_hook(_runs_out)

    def on_train_batch_end(self, *_: Any) -> None:
        # Each rank has its own value; DDP's broadcast replaces it by rank 0's in the next synchronised forward pass.
        self.shift.fill_(0.1 * (self.global_rank + 1) * (self.global_step % 3))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def _runs_out(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def fit(
    module: OnOneRank,
    *callbacks: Any,
    bucket: float = ONE_BUCKET,
    epochs: int = 2,
    devices: int = 2,
    batch_size: int = BATCH,
    **options: Any,
) -> pl.Trainer:
    """Train on two ranks, each on its half of the data; with one device, on one rank of DDP in this process."""
    accumulate = options.pop("accumulate_grad_batches", 1)
    strategy = DDPStrategy(bucket_cap_mb=bucket, find_unused_parameters=module.unused is not None, **options)
    trainer = make_trainer(
        callbacks,
        strategy=strategy,
        devices=devices,
        max_epochs=epochs,
        precision="64-true",
        accumulate_grad_batches=accumulate,
    )
    trainer.fit(module, DataLoader(regression_data(SAMPLES), batch_size=batch_size))
    return trainer


def outcome(module: OnOneRank, *callbacks: Any, **options: Any) -> dict[str, Any]:
    """What a run has come to, as JSON-able values."""
    before = collectives_made() if torch.distributed.is_initialized() else None
    trainer = fit(module, *callbacks, **options)
    return {
        "steps": trainer.global_step,
        "weights": [parameter.tolist() for parameter in weights(module)],
        "loss": float(trainer.callback_metrics["loss"]),
        "failures": module.failures,
        "collectives": None if before is None else collectives_made() - before,
    }


def automation(**settings: Any) -> DynamicBatchSizeOptimizer:
    """One that decides nothing by itself within the run."""
    return DynamicBatchSizeOptimizer(**{"adjustment_frequency": 1000, **settings})
