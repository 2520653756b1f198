"""Three tables of scikit-learn, each with a small network of two hidden layers."""

from __future__ import annotations

from functools import cache, partial

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.tasks.scores import accuracy, explained_variance
from benchmarks.tasks.task import Splits, Task

__all__ = ["BREAST_CANCER", "DIABETES", "WINE"]

_DEAL = "rtrtvrtrtrtrtrvtrtrv"
"""Of 20 samples in a row 9 are for training, 3 for validation, 8 for testing: with more of them a score is finer."""
_HIDDEN = 48


def _dealt_out(inputs: Tensor, targets: Tensor) -> Splits:
    """Deal the samples out in the order of their targets, equal ones shuffled, so that all sets are alike.

    Args:
        inputs: Shape (samples, features); made standard by mean and deviation of the training set.
        targets: Shape (samples,); made standard likewise where they are no classes.
    """
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    order = shuffled[targets[shuffled].argsort(stable=True)]
    training, validation, test = (
        order[[_DEAL[place % len(_DEAL)] == letter for place in range(len(order))]] for letter in "rvt"
    )
    inputs = _standard(inputs, inputs[training])
    if targets.is_floating_point():
        targets = _standard(targets, targets[training])
    return Splits(*(TensorDataset(inputs[chosen], targets[chosen]) for chosen in (training, validation, test)))


def _standard(values: Tensor, like: Tensor) -> Tensor:
    return (values - like.mean(dim=0)) / like.std(dim=0)


@cache
def _breast_cancer() -> Splits:
    inputs, targets = load_breast_cancer(return_X_y=True)
    return _dealt_out(torch.from_numpy(inputs).float(), torch.from_numpy(targets).long())


@cache
def _wine() -> Splits:
    inputs, targets = load_wine(return_X_y=True)
    return _dealt_out(torch.from_numpy(inputs).float(), torch.from_numpy(targets).long())


@cache
def _diabetes() -> Splits:
    inputs, targets = load_diabetes(return_X_y=True)
    return _dealt_out(torch.from_numpy(inputs).float(), torch.from_numpy(targets).float())


def _network(features: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, outputs)
    )


def _regression_network() -> nn.Module:
    return nn.Sequential(_network(10, 1), nn.Flatten(start_dim=0))


BREAST_CANCER = Task(
    name="breast_cancer",
    summary="scikit-learn's breast cancer: 569 tumours by 30 figures, two classes; two hidden layers",
    splits=_breast_cancer,
    network=partial(_network, 30, 2),
    loss=functional.cross_entropy,
    score=accuracy,
    score_name="accuracy",
    margin=0.02,
    steps=300,
    batch_size=32,
    optimizers=("adamw", "sgd"),
)
WINE = Task(
    name="wine",
    summary="scikit-learn's wine: 178 wines by 13 figures, three classes; two hidden layers",
    splits=_wine,
    network=partial(_network, 13, 3),
    loss=functional.cross_entropy,
    score=accuracy,
    score_name="accuracy",
    margin=0.035,  # two of the 72 wines of the test set, and the reference may lie between two whole ones
    steps=200,
    batch_size=16,
    optimizers=("sgd",),
)
DIABETES = Task(
    name="diabetes",
    summary="scikit-learn's diabetes: the disease's progress in 442 patients by 10 figures; two hidden layers",
    splits=_diabetes,
    network=_regression_network,
    loss=functional.mse_loss,
    score=explained_variance,
    score_name="R2",
    margin=0.05,
    steps=200,
    batch_size=32,
    optimizers=("adamw",),
)
