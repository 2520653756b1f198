"""How good a trained network is."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.tasks.task import Task

__all__ = ["judged"]


@torch.no_grad()
def judged(task: Task, network: nn.Module, data: TensorDataset, *, samples_at_once: int = 0) -> tuple[float, float]:
    """Score and loss of a network on a whole data set.

    Args:
        task: Says how outputs are judged.
        network: In evaluation mode meanwhile; left in the mode in which it came.
        data: Inputs and targets.
        samples_at_once: The network gets so many, where memory is short; 0: all of them.
    """
    inputs, targets = data.tensors
    was_training = network.training
    network.eval()
    outputs = torch.cat([network(piece) for piece in inputs.split(samples_at_once or len(inputs))])
    network.train(was_training)
    return task.score(outputs, targets).item(), task.loss(outputs, targets).item()
