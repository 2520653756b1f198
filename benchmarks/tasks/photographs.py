"""Photographs of scikit-image, to be enlarged to twice their size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.tasks.task import Splits, Task
from lightning_automations.cli.demo import photographs as demo
from lightning_automations.cli.demo.model import UpscalingNetwork

__all__ = ["PHOTOGRAPHS", "TEST", "TRAINING", "VALIDATION"]

_SIDE = 16
"""Of a crop of the small image; the enlarged one has twice as much."""
_LEAST_ERROR = 1 / 255**2 / 12
"""What rounding to 8 bits leaves in the originals. No crop is called better than that."""

TRAINING = ("astronaut", "brick", "camera", "grass", "gravel", "immunohistochemistry", "moon")
VALIDATION = ("chelsea", "coins")
TEST = ("coffee", "motorcycle")
# The rocket's file is left out: bicubic enlargement is hard to beat on what JPEG has smoothed.


@cache
def _splits() -> Splits:
    return Splits(
        training=_crops(_scenes(TRAINING), count=1400),
        validation=_crops(_scenes(VALIDATION), count=100),
        test=_crops(_scenes(TEST), count=480),
    )


def _scenes(names: Sequence[str]) -> list[demo.Photograph]:
    return [scene for scene in (*demo.TRAINING, *demo.VALIDATION) if scene.name in names]


def _crops(scenes: Sequence[demo.Photograph], *, count: int) -> TensorDataset:
    """Crops drawn once and for all, as many of each file."""
    pairs = demo.as_pairs(scenes)
    source = torch.Generator().manual_seed(0)
    low, high = [], []
    for place in range(count):
        pair = pairs[place % len(pairs)]
        row, column = (int(torch.randint(side - _SIDE + 1, (1,), generator=source)) for side in pair.low.shape[1:])
        low.append(pair.low[:, row : row + _SIDE, column : column + _SIDE])
        row, column, side = row * demo.SCALE, column * demo.SCALE, _SIDE * demo.SCALE
        high.append(pair.high[:, row : row + side, column : column + side])
    return TensorDataset(torch.stack(low), torch.stack(high))


def _psnr(outputs: Tensor, targets: Tensor) -> Tensor:
    """In dB, over values in [0, 1], as a mean over the crops."""
    error = (outputs - targets).square().flatten(start_dim=1).mean(dim=1)
    return -10 * error.clamp_min(_LEAST_ERROR).log10().mean()


PHOTOGRAPHS = Task(
    name="photographs",
    summary="crops of scikit-image's photographs at half their size, to be enlarged; a small residual network",
    splits=_splits,
    network=partial(UpscalingNetwork, channels=12, blocks=1),
    loss=functional.l1_loss,
    score=_psnr,
    score_name="dB",
    margin=0.1,
    steps=400,
    batch_size=8,
    optimizers=("adamw",),
    logged_score="val/psnr",
)
