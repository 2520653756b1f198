"""The photographs that ship inside scikit-image's wheel, split into training and validation.

The files are read from the installed package by name. Nothing is downloaded: a photograph that is not part of the wheel
cannot be named here without the tests noticing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, RandomSampler

__all__ = [
    "SCALE",
    "TRAINING",
    "VALIDATION",
    "ImagePair",
    "Photograph",
    "RandomCrops",
    "WholePhotographs",
    "as_pairs",
    "downscale",
    "training_loader",
    "upscale_bicubic",
    "validation_loader",
]

SCALE = 2
_ORIENTATIONS = 8
"""Four rotations, each as it is and mirrored."""


@dataclass(frozen=True)
class Photograph:
    """One scene, with every file that shows it.

    Args:
        name: What the demo calls it.
        files: Names of the files in ``skimage/data``. The two views of a stereo pair show the same scene: they are one
            photograph, so that one view cannot be trained on while the other one is called unseen.
    """

    name: str
    files: tuple[str, ...]


TRAINING = (
    Photograph("astronaut", ("astronaut.png",)),
    Photograph("brick", ("brick.png",)),
    Photograph("camera", ("camera.png",)),
    Photograph("grass", ("grass.png",)),
    Photograph("gravel", ("gravel.png",)),
    Photograph("immunohistochemistry", ("ihc.png",)),
    Photograph("moon", ("moon.png",)),
    Photograph("motorcycle", ("motorcycle_left.png", "motorcycle_right.png")),
)
VALIDATION = (
    Photograph("chelsea", ("chelsea.png",)),
    Photograph("coffee", ("coffee.png",)),
    Photograph("coins", ("coins.png",)),
    Photograph("rocket", ("rocket.jpg",)),
)


@dataclass(frozen=True)
class ImagePair:
    """One image in both sizes.

    Args:
        name: Name of the photograph.
        low: The image at half its size, float in [0, 1], shape (3, height / 2, width / 2).
        high: The original, float in [0, 1], shape (3, height, width), both even.
    """

    name: str
    low: Tensor
    high: Tensor


def as_pairs(photographs: Sequence[Photograph]) -> list[ImagePair]:
    """Every file of the photographs, each with its low-resolution version."""
    pairs = []
    for photograph in photographs:
        for file in photograph.files:
            high = _read(file)
            pairs.append(ImagePair(name=photograph.name, low=downscale(high), high=high))
    return pairs


def downscale(high: Tensor) -> Tensor:
    """Half the size, by bicubic interpolation behind an antialiasing filter, stored in 8 bits as a real image would be.

    Without the filter, fine texture turns into false patterns, and the task becomes to undo an error nobody makes.
    """
    low = functional.interpolate(high[None], scale_factor=1 / SCALE, mode="bicubic", antialias=True)[0]
    return low.mul(255).round().clamp(0, 255).div(255)


def upscale_bicubic(low: Tensor) -> Tensor:
    """Twice the size by bicubic interpolation: the method to beat.

    Args:
        low: Batch of images, shape (batch, 3, height, width).
    """
    return functional.interpolate(low, scale_factor=SCALE, mode="bicubic", align_corners=False)


class RandomCrops(Dataset[tuple[Tensor, Tensor]]):
    """Every square crop that can be cut from the images, in every orientation.

    The index alone says which crop it is, so the dataset needs no random source of its own: the sampler's generator
    decides what is drawn, whatever the number of workers and the size of the batch.

    Args:
        pairs: Images to cut from.
        crop_pixels: Side of a crop in pixels of the original, even and at most the shortest side of the images.
    """

    def __init__(self, pairs: Sequence[ImagePair], *, crop_pixels: int) -> None:
        self._pairs = pairs
        self._low_side = crop_pixels // SCALE
        self._columns = [pair.low.shape[2] - self._low_side + 1 for pair in pairs]
        rows = [pair.low.shape[1] - self._low_side + 1 for pair in pairs]
        sizes = torch.tensor(
            [height * width * _ORIENTATIONS for height, width in zip(rows, self._columns, strict=True)]
        )
        self._ends = sizes.cumsum(0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        which = int(torch.searchsorted(self._ends, index, right=True))
        start = int(self._ends[which - 1]) if which else 0
        position, orientation = divmod(index - start, _ORIENTATIONS)
        row, column = divmod(position, self._columns[which])
        pair, side = self._pairs[which], self._low_side
        low = pair.low[:, row : row + side, column : column + side]
        row, column, side = row * SCALE, column * SCALE, side * SCALE
        high = pair.high[:, row : row + side, column : column + side]
        return _oriented(low, orientation), _oriented(high, orientation)


class WholePhotographs(Dataset[tuple[Tensor, Tensor]]):
    """The images as they are, one at a time.

    Args:
        pairs: The images.
    """

    def __init__(self, pairs: Sequence[ImagePair]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._pairs[index].low, self._pairs[index].high


def training_loader(
    pairs: Sequence[ImagePair], *, crop_pixels: int, crops_per_epoch: int, batch_size: int, seed: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """A loader that draws a fixed number of crops an epoch, the same ones in the same order for the same seed.

    Cutting a crop takes microseconds, so no worker processes are started.
    """
    crops = RandomCrops(pairs, crop_pixels=crop_pixels)
    generator = torch.Generator().manual_seed(seed)
    sampler = RandomSampler(crops, replacement=True, num_samples=crops_per_epoch, generator=generator)
    return DataLoader(crops, batch_size=batch_size, sampler=sampler)


def validation_loader(pairs: Sequence[ImagePair]) -> DataLoader[tuple[Tensor, Tensor]]:
    """A loader of whole photographs; they differ in size, so each is a batch of its own."""
    return DataLoader(WholePhotographs(pairs), batch_size=1)


def _read(file: str) -> Tensor:
    """A file of scikit-image's wheel as floats in [0, 1], three channels, cut to even sides."""
    with files("skimage").joinpath("data").joinpath(file).open("rb") as stream:
        pixels = np.array(Image.open(stream).convert("RGB"))
    image = torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
    height, width = (side // SCALE * SCALE for side in image.shape[1:])
    return image[:, :height, :width].contiguous()


def _oriented(image: Tensor, orientation: int) -> Tensor:
    quarter_turns, mirrored = divmod(orientation, 2)
    turned = torch.rot90(image, quarter_turns, dims=(1, 2))
    return turned.flip(2) if mirrored else turned
