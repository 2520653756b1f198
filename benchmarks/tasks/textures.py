"""Small gray patches of scikit-image's pictures: from which one is it?"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.tasks.scores import accuracy
from benchmarks.tasks.task import Splits, Task
from lightning_automations.cli.demo.photographs import Photograph, as_pairs

__all__ = ["BANDS", "PERIOD", "PICTURES", "TEXTURES"]

PICTURES = ("brick", "grass", "gravel", "moon")
_SIDE = 16
PERIOD = 128
BANDS = {"training": (0, 64), "validation": (64, 16), "test": (80, 48)}
"""Where the vertical bands of each set start, and how wide they are, in pixels. They come again after each period."""
_STEPS = {"training": 8, "validation": 16, "test": 16}
"""From patch to patch, in pixels: only patches for training overlap one another."""
_CHANNELS = 24
_FLAT = 0.01
"""Least deviation of a tile, in units of the range from black to white."""


def _patches(set_: str) -> TensorDataset:
    """The patches of one set, with the number of the picture from which each was cut. Flat ones are left out."""
    patches, classes = [], []
    for number, name in enumerate(PICTURES):
        picture = as_pairs([Photograph(name, (f"{name}.png",))])[0].high.mean(dim=0)
        start, width = BANDS[set_]
        bands = [picture[:, left : left + width] for left in range(start, picture.shape[1] - width + 1, PERIOD)]
        cut = torch.cat([_cut(band, step=_STEPS[set_]) for band in bands])
        patches.append(cut[cut.std(dim=(1, 2, 3)) > _FLAT])
        classes.append(torch.full((len(patches[-1]),), number))
    return TensorDataset(_evened(torch.cat(patches)), torch.cat(classes))


def _cut(band: Tensor, *, step: int) -> Tensor:
    """All patches of a band, shape (patches, 1, side, side)."""
    return band.unfold(0, _SIDE, step).unfold(1, _SIDE, step).reshape(-1, 1, _SIDE, _SIDE)


def _evened(patches: Tensor) -> Tensor:
    """Brightness and contrast alone would give a picture away: what is left is its texture."""
    deviation, mean = torch.std_mean(patches, dim=(1, 2, 3), keepdim=True)
    return (patches - mean) / deviation


@cache
def _splits() -> Splits:
    return Splits(training=_patches("training"), validation=_patches("validation"), test=_patches("test"))


class _AttentionNetwork(nn.Module):
    """Two convolutions, and one layer in which the 16 places of what they make attend to one another."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, _CHANNELS // 2, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS // 2, _CHANNELS, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(_CHANNELS)
        self.query_key_value = nn.Linear(_CHANNELS, 3 * _CHANNELS)
        self.head = nn.Linear(_CHANNELS, len(PICTURES))

    def forward(self, patches: Tensor) -> Tensor:
        places = self.norm(self.convolutions(patches).flatten(start_dim=2).transpose(1, 2))
        attended = functional.scaled_dot_product_attention(*self.query_key_value(places).chunk(3, dim=2))
        return self.head((places + attended).mean(dim=1))


TEXTURES = Task(
    name="textures",
    summary="16 x 16 gray patches of four pictures of scikit-image, which one; convolutions and self-attention",
    splits=_splits,
    network=_AttentionNetwork,
    loss=functional.cross_entropy,
    score=accuracy,
    score_name="accuracy",
    margin=0.02,
    steps=400,
    batch_size=32,
    optimizers=("adamw", "sgd"),
)
