"""A small network that doubles the size of an image, and how it is trained and judged."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from lightning_automations.cli.demo.photographs import SCALE, upscale_bicubic

__all__ = ["Quality", "SuperResolution", "UpscalingNetwork", "measure"]


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
        return features + self.body(features)


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
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    def forward(self, low: Tensor) -> Tensor:
        details = functional.pixel_shuffle(self.tail(self.body(self.head(low))), SCALE)
        return upscale_bicubic(low) + details
