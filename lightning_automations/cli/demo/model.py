"""A small network that doubles the size of an image, and how it is trained and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from lightning_automations.callbacks.weighted_losses import WeightedLosses
from lightning_automations.cli.demo.photographs import SCALE, ImagePair, upscale_bicubic

__all__ = ["Quality", "SuperResolution", "UpscalingNetwork", "measure", "restoration_terms"]


class _ResidualBlock(nn.Module):
    """Two convolutions whose result is added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        changes: Tensor = self.body(features)
        return features + changes


class UpscalingNetwork(nn.Module):
    """Adds to a bicubic enlargement what it lacks.

    All convolutions work on the small image; the last one makes four values per pixel and channel, which PixelShuffle
    lays out as the large image. The last convolution starts at zero, so before the first step the network *is* bicubic
    interpolation and every gain over it was learned.

    Args:
        channels: Width of the network, 1 or more.
        blocks: Number of residual blocks, 1 or more.
    """

    def __init__(self, *, channels: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        self.body = nn.Sequential(*(_ResidualBlock(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, 3 * SCALE**2, kernel_size=3, padding=1)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, low: Tensor) -> Tensor:
        details = functional.pixel_shuffle(self.tail(self.body(self.head(low))), SCALE)
        return upscale_bicubic(low) + details


@dataclass(frozen=True)
class Quality:
    """How close enlarged images come to their originals, averaged over photographs.

    Args:
        psnr: Peak signal-to-noise ratio in dB, over all three channels.
        ssim: Structural similarity, 1 for identical images.
    """

    psnr: float
    ssim: float


class _Judge(nn.Module):
    """Both metrics, as a mean over photographs: a large photograph counts as much as a small one."""

    def __init__(self) -> None:
        super().__init__()
        self.psnr = PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3))
        self.ssim = StructuralSimilarityIndexMeasure(data_range=1.0)

    def quality(self) -> Quality:
        """The mean over everything that was added."""
        values = {"psnr": self.psnr.compute(), "ssim": self.ssim.compute()}
        return Quality(**{name: torch.as_tensor(value).item() for name, value in values.items()})

    def update(self, upscaled: Tensor, high: Tensor) -> None:
        """Add a batch. What lies outside the range of an image is cut off, as saving it would do."""
        shown = upscaled.clamp(0, 1)
        self.psnr.update(shown, high)
        self.ssim.update(shown, high)


@torch.no_grad()
def measure(upscale: Callable[[Tensor], Tensor], pairs: Iterable[ImagePair]) -> Quality:
    """Judge any way of enlarging on whole photographs.

    The network, bicubic interpolation and the validation during training are all judged by the same two metrics.

    Args:
        upscale: Takes a batch of small images and returns them at twice the size.
        pairs: The photographs, at least one.
    """
    judge = _Judge()
    for pair in pairs:
        judge.update(upscale(pair.low[None]), pair.high[None])
    return judge.quality()


def restoration_terms(upscaled: Tensor, high: Tensor) -> dict[str, Tensor]:
    """What a restoration is trained on: both are 0 for identical images, and means over the images of a batch.

    Args:
        upscaled: Images, shape (batch, channels, height, width), sides of at least 11 pixels.
        high: The originals, with values in [0, 1].
    """
    similarity = structural_similarity_index_measure(upscaled, high, data_range=1.0)
    return {"l1": functional.l1_loss(upscaled, high), "ssim": 1 - torch.as_tensor(similarity)}


class SuperResolution(WeightedLosses, LightningModule):
    """Ordinary Lightning code; of the automations it knows the mixin for losses with several terms.

    Its loss has two terms, which want different things: ``l1`` the right values, ``ssim`` (one minus the structural
    similarity) the right texture. The second one wants originals of at least 11 pixels, the width of its window.

    Args:
        network: Takes a batch of small images and returns them at twice the size.
        learning_rate: Constant rate of AdamW, above 0.

    Attributes:
        loss_weights: Weight of each term, read at every step.
    """

    def __init__(self, network: nn.Module, *, learning_rate: float) -> None:
        super().__init__()
        self.network = network
        self.learning_rate = learning_rate
        self.judge = _Judge()
        self.loss_weights = {"l1": 1.0, "ssim": 0.1}

    def forward(self, low: Tensor) -> Tensor:
        upscaled: Tensor = self.network(low)
        return upscaled

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> dict[str, Any]:
        low, high = batch
        output = self.weighted(**restoration_terms(self(low), high))
        self.log("train/loss", output["loss"])
        return output

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        low, high = batch
        upscaled = self(low)
        self.judge.update(upscaled, high)
        self.log("val/loss", functional.l1_loss(upscaled, high), batch_size=1)
        self.log("val/psnr", self.judge.psnr, batch_size=1)
        self.log("val/ssim", self.judge.ssim, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate)
