"""Scores that several tasks share. All are better when they are higher."""

from __future__ import annotations

from torch import Tensor

__all__ = ["accuracy", "explained_variance"]


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of the samples whose class has the highest output.

    Args:
        outputs: One figure a class, shape (samples, classes).
        targets: Numbers of the classes, shape (samples,).
    """
    return (outputs.argmax(dim=1) == targets).float().mean()


def explained_variance(outputs: Tensor, targets: Tensor) -> Tensor:
    """R2: 1 for perfect outputs, 0 for the mean of the targets.

    Args:
        outputs: Predictions, of the shape of the targets.
        targets: At least two that differ.
    """
    return 1 - (outputs - targets).square().sum() / (targets - targets.mean()).square().sum()
