"""What a task of the scoreboard consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

__all__ = ["Splits", "Task"]


@dataclass(frozen=True)
class Splits:
    """Three sets of (inputs, targets) that share no sample, the same ones whatever the seed of a run.

    Automations and schedulers see the first two; success is judged on the third.
    """

    training: TensorDataset
    validation: TensorDataset
    test: TensorDataset


@dataclass(frozen=True, kw_only=True)
class Task:
    """Real data, a small network, and how a trained one is judged. A run takes a second or two on one core.

    Args:
        name: As it stands in tables and result files.
        summary: One line for RESULTS.md: data, network, score.
        splits: Makes the data, without a download. Called often: caches what it made.
        network: Makes an untrained network; whoever calls it has seeded torch.
        loss: Outputs of the network and targets to the mean loss over the samples.
        score: Outputs and targets to a figure that is better when it is higher.
        score_name: What the score is called in tables: accuracy, R2, dB.
        margin: A run succeeds when its score on the test data is at most this below that of the best tuned clean run.
        steps: Optimizer steps of a run.
        batch_size: Samples of a batch.
        optimizers: Names of the optimizers under which the task is run: ``adamw``, ``sgd``.
        logged_score: Name under which the validation's score is logged beside ``val/loss``; None: it is not logged.
        held_out: Whether the task is kept out of all design work and reported apart.
    """

    name: str
    summary: str
    splits: Callable[[], Splits]
    network: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    score_name: str
    margin: float
    steps: int
    batch_size: int
    optimizers: tuple[str, ...]
    logged_score: str | None = None
    held_out: bool = False

    def training_loader(self, *, seed: int) -> DataLoader[tuple[Tensor, ...]]:
        """Batches of the training data, the same ones in the same order for the same seed."""
        order = torch.Generator().manual_seed(seed)
        data = self.splits().training
        return DataLoader(data, batch_size=self.batch_size, shuffle=True, drop_last=True, generator=order)
