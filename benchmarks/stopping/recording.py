"""Trains a job to the end of its budget and keeps its curves: recorded once, replayed many times.

A loop of plain torch, for nothing may stop or change these runs. A test holds it against a real Lightning run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import TensorDataset

from benchmarks.methods.method import MOMENTUM
from benchmarks.stopping.curve import Curve
from benchmarks.stopping.jobs import DROP_FACTOR, VALIDATIONS, StoppingJob
from benchmarks.tasks.judging import judged
from benchmarks.tasks.task import Task

__all__ = ["Batches", "network_of", "noisy", "record"]

Batch = tuple[Tensor, Tensor]


class Batches:
    """Passes over a data set in an order that is new each time; a last batch that is not full is left out.

    Args:
        data: Inputs and targets.
        size: Samples of a batch.
        seed: Of the order.
    """

    def __init__(self, data: TensorDataset, *, size: int, seed: int) -> None:
        self._inputs, self._targets = data.tensors
        self._size = size
        self._order = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._inputs) // self._size

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._inputs), generator=self._order)
        for chosen in order[: len(self) * self._size].split(self._size):
            yield self._inputs[chosen], self._targets[chosen]


def record(job: StoppingJob, task: Task, *, seed: int) -> Curve:
    """Train a job and keep its curves.

    Args:
        job: How to train.
        task: The task that it names.
        seed: Of network, order of the samples, dropout and noise.
    """
    splits = task.splits()
    batches = Batches(noisy(splits.training, share=job.noise, seed=seed), size=task.batch_size, seed=seed)
    torch.manual_seed(seed)
    network = network_of(job, task)
    entries = list(_entries(job, task, network, batches))
    training, validation, test, rates = zip(*entries, strict=True)
    return Curve(
        job=job.name,
        regime=job.regime.value,
        task=job.task,
        kind=job.kind,
        seed=seed,
        interval=job.interval,
        steps_per_epoch=len(batches),
        margin=task.margin,
        held_out=task.held_out,
        training_losses=training,
        validation_losses=tuple(loss for _, loss in validation),
        validation_scores=tuple(score for score, _ in validation),
        test_losses=tuple(loss for _, loss in test),
        test_scores=tuple(score for score, _ in test),
        rates=rates,
    )


Entry = tuple[float, tuple[float, float], tuple[float, float], float]
"""Training loss, score and loss of the validation, of the test, and the rate."""


def _entries(job: StoppingJob, task: Task, network: nn.Module, batches: Batches) -> Iterator[Entry]:
    """Train, and yield what is seen at each validation."""
    splits = task.splits()
    optimizer = _optimizer(job, network)
    schedule = MultiStepLR(optimizer, list(job.drops), gamma=DROP_FACTOR)
    stream = _endless(batches)
    for _ in range(VALIDATIONS):
        losses = []
        for _ in range(job.interval):
            inputs, targets = next(stream)
            loss = task.loss(network(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        rate = float(optimizer.param_groups[0]["lr"])
        yield (
            float(torch.stack(losses).mean()),
            judged(task, network, splits.validation),
            judged(task, network, splits.test),
            rate,
        )


def network_of(job: StoppingJob, task: Task) -> nn.Module:
    """An untrained network of the task, behind dropout on its inputs where the job has some."""
    network = task.network()
    return nn.Sequential(nn.Dropout(job.dropout), network) if job.dropout else network


def noisy(data: TensorDataset, *, share: float, seed: int) -> TensorDataset:
    """The same inputs with noise in the targets.

    Args:
        data: Inputs and targets: whole numbers are classes.
        share: As ``StoppingJob.noise`` has it.
        seed: Of the noise.
    """
    if not share:
        return data
    inputs, targets = data.tensors
    source = torch.Generator().manual_seed(seed)
    if targets.is_floating_point():
        noise = torch.randn(targets.shape, generator=source, dtype=targets.dtype)
        return TensorDataset(inputs, targets + share * targets.std() * noise)
    classes = int(targets.max()) + 1
    others = (targets + torch.randint(1, classes, targets.shape, generator=source)) % classes
    flipped = torch.rand(targets.shape, generator=source) < share
    return TensorDataset(inputs, torch.where(flipped, others, targets))


def _optimizer(job: StoppingJob, network: nn.Module) -> Optimizer:
    if job.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=job.rate, momentum=MOMENTUM)
    return torch.optim.AdamW(network.parameters(), lr=job.rate)


def _endless(batches: Batches) -> Iterator[Batch]:
    for _ in count():
        yield from batches
