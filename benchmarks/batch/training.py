"""Ordinary Lightning code around a task: the module, its data, and a ledger of what a run has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.batch.jobs import MemoryJob
from benchmarks.methods.method import MOMENTUM
from benchmarks.tasks.task import Task

__all__ = ["BatchData", "BatchModule", "Ledger", "LedgerKeeper", "numbered"]

SAMPLES_AT_ONCE = 8
"""Of validation and test, so that these need little memory beside training."""


class Ledger:
    """What a run has seen, over all its trials and restarts.

    Args:
        budget: Samples that the plain run sees.
    """

    def __init__(self, *, budget: int) -> None:
        self.budget = budget
        self.samples = 0
        self.weights_in_budget: dict[str, Tensor] | None = None
        self.epochs: list[list[int]] = []
        self.batch = 0
        self.micro_batch = 0

    def enters(self, network: torch.nn.Module, samples: int) -> None:
        """Count samples that enter a training step; keep the weights where they are the first beyond the budget."""
        if self.weights_in_budget is None and self.samples + samples > self.budget:
            self.weights_in_budget = {name: value.clone() for name, value in network.state_dict().items()}
        self.samples += samples
        self.micro_batch = max(self.micro_batch, samples)

    def begin_epoch(self) -> None:
        """An epoch starts."""
        self.epochs.append([])
        self.batch = self.micro_batch = 0

    def trained(self, samples: Sequence[int]) -> None:
        """A batch has been trained."""
        self.epochs[-1].extend(samples)
        self.batch = max(self.batch, len(samples))

    def restart(self) -> None:
        """Training starts again from nothing; what was seen stays seen."""
        self.epochs = []

    def each_once(self, job: MemoryJob) -> bool:
        """Whether each epoch that was begun had every sample exactly once."""
        whole = list(range(job.samples))
        return bool(self.epochs) and all(sorted(epoch) == whole for epoch in self.epochs)


class LedgerKeeper(Callback):
    """Writes down which samples were trained. Lightning's finder takes callbacks away during its trials."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ledger.begin_epoch()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._ledger.trained(batch[2].tolist())


class BatchModule(LightningModule):
    """The network of a job."""

    def __init__(self, job: MemoryJob, task: Task, ledger: Ledger) -> None:
        super().__init__()
        self.network = task.network()
        self.job = job
        self.task = task
        self.ledger = ledger

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        inputs, targets, _ = batch
        self.ledger.enters(self.network, len(inputs))
        loss = self.task.loss(self.network(inputs), targets)
        self.log("train/loss", loss, batch_size=len(inputs))
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        outputs = self.network(inputs)
        self.log("val/loss", self.task.loss(outputs, targets), batch_size=len(inputs))
        if self.task.logged_score is not None:
            self.log(self.task.logged_score, self.task.score(outputs, targets), batch_size=len(inputs))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.job.optimizer == "sgd":
            return torch.optim.SGD(self.parameters(), lr=self.job.rate, momentum=MOMENTUM)
        return torch.optim.AdamW(self.parameters(), lr=self.job.rate)


class BatchData(LightningDataModule):
    """The data of a job, with the attribute that Lightning's finder looks for."""

    def __init__(self, training: TensorDataset, validation: TensorDataset, *, seed: int, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self._training = training
        self._validation = validation
        self._seed = seed

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        order = torch.Generator().manual_seed(self._seed)
        return DataLoader(self._training, batch_size=self.batch_size, shuffle=True, generator=order)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self._validation, batch_size=SAMPLES_AT_ONCE)


def numbered(job: MemoryJob, task: Task) -> TensorDataset:
    """The training data of a job: inputs, targets, and the number of each sample."""
    training = task.splits().training
    numbers = torch.arange(job.samples)
    return TensorDataset(*(tensor[numbers % len(training)] for tensor in training.tensors), numbers)
