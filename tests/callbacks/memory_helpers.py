"""Modules whose training step runs out of memory on purpose, and a memory that a test makes up."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError

from lightning_automations import DynamicBatchSizeOptimizer
from lightning_automations.probes.memory import MemoryReading
from tests.callbacks.helpers import FEATURES, make_trainer, regression_data

UNLIMITED = 10**9


class FailsInBackward(torch.autograd.Function):
    """Passes values on; its backward pass runs out of memory."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Limited(pl.LightningModule):
    """A small network whose training step holds only so many samples.

    Args:
        fits: The most samples that forward (or backward) can take.
        place: ``forward`` or ``backward``.
        layers: The network; by default two linear layers.
        random_noise: Whether the step draws from torch, Python and NumPy.
    """

    def __init__(
        self,
        fits: int = UNLIMITED,
        *,
        place: str = "forward",
        layers: nn.Module | None = None,
        random_noise: bool = False,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = layers or nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 1))
        self.unused = nn.Linear(2, 2)
        self.fits = fits
        self.place = place
        self.random_noise = random_noise
        self.metric = MeanSquaredError()
        self.sizes: list[int] = []
        self.failures = 0
        self.gradients: list[list[Tensor | None]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        inputs, targets = batch
        fails = len(inputs) > self.fits
        if self.random_noise:
            inputs = inputs * (random.random() + np.random.rand()) + torch.randn_like(inputs)
        predictions = self.layers(inputs)
        loss = nn.functional.mse_loss(predictions, targets)
        self.metric(predictions.detach().float(), targets)
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("epoch", loss)
        self.log("step", loss, on_step=True, on_epoch=False)
        self.log("samples", float(len(inputs)), on_step=True, on_epoch=True, reduce_fx="sum")
        self.log("largest", inputs.max(), on_step=True, on_epoch=True, reduce_fx="max")
        self.log("metric", self.metric, on_step=False, on_epoch=True)
        self.sizes.append(len(inputs))
        if fails:
            self.failures += 1
            if self.place == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            loss = FailsInBackward.apply(loss)
        return {"loss": loss, "predictions": predictions, "mean": loss.detach(), "name": f"of {len(inputs)}"}

    def on_after_backward(self) -> None:
        self.gradients.append([None if value.grad is None else value.grad.clone() for value in self.parameters()])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class Outputs(Callback):
    """Keeps what other callbacks see of each step, and what was logged."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.logged: list[dict[str, float]] = []
        self.epochs: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.outputs.append(
            {name: value.detach() if isinstance(value, Tensor) else value for name, value in outputs.items()}
        )
        self.logged.append(logged_numbers(trainer))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.epochs.append(logged_numbers(trainer))


def logged_numbers(trainer: pl.Trainer) -> dict[str, float]:
    """What the module has logged, without what the automation publishes."""
    return {
        name: float(value) for name, value in trainer.callback_metrics.items() if not name.startswith("automation/")
    }


class MadeUpMemory:
    """A memory whose peak follows the largest piece that a module was given.

    Args:
        share: Share of the memory that so many samples need.
        sizes: The sizes that the module was given, as it keeps them.
        before: The share in use before training.
    """

    def __init__(self, share: Callable[[int], float], sizes: list[int], *, before: float = 0.0) -> None:
        self._share = share
        self._sizes = sizes
        self._before = before
        self._start = 0

    def read(self) -> MemoryReading:
        sizes = self._sizes[self._start :]
        share = self._share(max(sizes)) if sizes else self._before
        return MemoryReading(used_bytes=0, peak_bytes=round(share * 1e9), total_bytes=10**9)

    def reset_peak(self) -> None:
        self._start = len(self._sizes)


def loader(batch_size: int, samples: int, **options: Any) -> DataLoader[Any]:
    """Training batches in a fixed order unless told to shuffle."""
    return DataLoader(regression_data(samples), batch_size=batch_size, **options)


def trained(module: Limited, *callbacks: Any, batch_size: int = 10, samples: int = 74, **options: Any) -> pl.Trainer:
    """The trainer after two epochs; the last batch of an epoch is smaller than the others."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    trainer = make_trainer(callbacks, **{"max_epochs": 2, "log_every_n_steps": 1, **options})
    trainer.fit(module, loader(batch_size, samples))
    return trainer


def started_at(size: int, **settings: Any) -> DynamicBatchSizeOptimizer:
    """The automation of a run that knows from its start which size fits."""
    automation = DynamicBatchSizeOptimizer(**settings)
    state = automation.state_dict()
    state["brain"]["micro_batch"] = size
    automation.load_state_dict(state)
    return automation
