"""Real data with a loss of two and of three terms, each term with a score of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from torchmetrics.functional.image import structural_similarity_index_measure

from benchmarks.tasks.photographs import PHOTOGRAPHS
from benchmarks.tasks.scores import accuracy, explained_variance
from benchmarks.tasks.task import Splits
from lightning_automations.cli.demo.model import restoration_terms

__all__ = ["TASKS", "TUMOURS", "UPSCALING", "LossTask"]

ByTerm = Callable[[Tensor, Tensor], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class LossTask:
    """Data, a network that all terms share, and how each term's side of the result is judged.

    Args:
        name: As it stands in tables and result files.
        summary: One line for RESULTS.md.
        splits: Makes the data, without a download.
        network: Makes an untrained network; whoever calls it has seeded torch.
        terms: Outputs and targets to the unweighted terms of the loss.
        scores: Outputs and targets to a score of each term, better when it is higher.
        weights: The well-set weight of each term.
        margins: By term: a run succeeds when no score is further than this below that of well-set fixed weights.
        shared: The last layer that all terms share, by its name in the network.
        rate: Learning rate of AdamW.
        steps: Optimizer steps of a run.
        batch_size: Samples of a batch.
    """

    name: str
    summary: str
    splits: Callable[[], Splits]
    network: Callable[[], nn.Module]
    terms: ByTerm
    scores: ByTerm
    weights: Mapping[str, float]
    margins: Mapping[str, float]
    shared: str
    rate: float
    steps: int
    batch_size: int


def _restoration_scores(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    similarity = structural_similarity_index_measure(outputs, targets, data_range=1.0)
    return {"l1": PHOTOGRAPHS.score(outputs, targets), "ssim": torch.as_tensor(similarity)}


_DEAL = "rtrtvrtrtrtrtrvtrtrv"
_WORST_TEXTURE, _WORST_SMOOTHNESS = 21, 24
"""Columns of the largest values in a tumour; its means and their errors are columns 0 to 19."""


@cache
def _tumours() -> Splits:
    table, classes = load_breast_cancer(return_X_y=True)
    values = torch.from_numpy(table).float()
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    places = {letter: order[[_DEAL[row % 20] == letter for row in range(len(order))]] for letter in "rvt"}
    training = values[places["r"]]
    values = (values - training.mean(dim=0)) / training.std(dim=0)
    labels = torch.from_numpy(classes).float()
    targets = torch.stack([labels, values[:, _WORST_TEXTURE], values[:, _WORST_SMOOTHNESS]], dim=1)
    return Splits(*(TensorDataset(values[rows, :20], targets[rows]) for rows in places.values()))


def _tumour_network() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4))


def _tumour_terms(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return {
        "diagnosis": functional.cross_entropy(outputs[:, :2], targets[:, 0].long()),
        "texture": functional.mse_loss(outputs[:, 2], targets[:, 1]),
        "smoothness": functional.mse_loss(outputs[:, 3], targets[:, 2]),
    }


def _tumour_scores(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return {
        "diagnosis": accuracy(outputs[:, :2], targets[:, 0].long()),
        "texture": explained_variance(outputs[:, 2], targets[:, 1]),
        "smoothness": explained_variance(outputs[:, 3], targets[:, 2]),
    }


UPSCALING = LossTask(
    name="upscaling",
    summary="the photographs of the scoreboard, enlarged by L1 and SSIM; judged by PSNR (dB) and SSIM",
    splits=PHOTOGRAPHS.splits,
    network=PHOTOGRAPHS.network,
    terms=restoration_terms,
    scores=_restoration_scores,
    weights={"l1": 1.0, "ssim": 0.1},
    margins={"l1": PHOTOGRAPHS.margin, "ssim": 0.002},
    shared="tail",
    rate=2e-3,  # the one that the scoreboard found for these photographs
    steps=PHOTOGRAPHS.steps,
    batch_size=PHOTOGRAPHS.batch_size,
)
TUMOURS = LossTask(
    name="tumours",
    summary="scikit-learn's breast cancer: from means and errors of 10 figures the diagnosis and the largest texture "
    "and smoothness; one shared hidden layer; judged by accuracy and R2",
    splits=_tumours,
    network=_tumour_network,
    terms=_tumour_terms,
    scores=_tumour_scores,
    weights={"diagnosis": 1.0, "texture": 1.0, "smoothness": 1.0},
    margins={"diagnosis": 0.02, "texture": 0.05, "smoothness": 0.05},
    shared="0",
    rate=1e-2,
    steps=300,
    batch_size=32,
)
TASKS = (UPSCALING, TUMOURS)
