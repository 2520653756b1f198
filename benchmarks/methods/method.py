"""What a method of the scoreboard consists of: ours, a peer, or plain Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from lightning.pytorch import Callback
from torch.nn import Parameter
from torch.optim import Optimizer

from benchmarks.tasks.task import Task

__all__ = ["MOMENTUM", "Method", "RunSetup", "Study", "users_optimizer"]

MOMENTUM = 0.9
"""Of SGD, wherever it is used."""


class Study(str, Enum):
    """A comparison in which methods meet."""

    CLIPPING = "clipping"
    RATE = "rate"
    TOGETHER = "together"
    """All automations at once beside plain Lightning, on every scenario: the headline."""


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """What a method is told about the run.

    Args:
        task: The task.
        optimizer: Name of the optimizer that the user chose: ``adamw`` or ``sgd``.
        rate: The learning rate that the user wrote, whatever the scenario did to it.
        cosine_rate: Likewise, for a user who anneals by a cosine: tuned with it on the clean task, then off by the
            scenario's factor too.
        steps: Optimizer steps of the run.
        validation_interval: Steps between two validations.
    """

    task: Task
    optimizer: str
    rate: float
    cosine_rate: float
    steps: int
    validation_interval: int


def users_optimizer(parameters: Iterable[Parameter], setup: RunSetup) -> Optimizer:
    """The optimizer that the user chose, at the rate that the user wrote."""
    if setup.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=setup.rate, momentum=MOMENTUM)
    return torch.optim.AdamW(parameters, lr=setup.rate)


def _no_callbacks(_: RunSetup) -> list[Callback]:
    return []


def _no_schedule(_: Optimizer, _setup: RunSetup) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to train that competes with others.

    Args:
        name: As it stands in tables and result files.
        source: Where the method comes from, with its settings where they are not the shipped defaults.
        studies: The comparisons in which it takes part.
        callbacks: Callbacks for the trainer, made anew for each run.
        optimizer: The optimizer: the user's, or one that replaces it.
        schedule: Lightning's configuration of a learning-rate scheduler, or None.
        trainer: Further arguments of the trainer.
        optimizers: The user's optimizers for which it can be used or stand in.
        scenarios: Names of those of its studies' scenarios that it meets; None: all.
    """

    name: str
    source: str
    studies: frozenset[Study]
    callbacks: Callable[[RunSetup], list[Callback]] = _no_callbacks
    optimizer: Callable[[Iterable[Parameter], RunSetup], Optimizer] = users_optimizer
    schedule: Callable[[Optimizer, RunSetup], Mapping[str, Any] | None] = _no_schedule
    trainer: Mapping[str, Any] = field(default_factory=dict)
    optimizers: frozenset[str] = frozenset({"adamw", "sgd"})
    scenarios: frozenset[str] | None = None
