"""One picture that shows a detail in every version, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from lightning_automations.cli.demo.model import measure
from lightning_automations.cli.demo.photographs import SCALE, ImagePair, upscale_bicubic

__all__ = ["DETAIL", "Detail", "save_comparison"]

_ENLARGE = 3
"""Screen pixels per pixel of the original, so that single pixels can be seen."""
_TITLE_HEIGHT = 44
_GAP = 6


@dataclass(frozen=True)
class Detail:
    """A square of one validation photograph.

    Args:
        photograph: Its name.
        top: First row, in pixels of the original, even.
        left: First column, in pixels of the original, even.
        side: Height and width in pixels of the original, even.
    """

    photograph: str
    top: int
    left: int
    side: int

    def cut(self, image: Tensor) -> Tensor:
        """This square of an image of the original's size, shape (3, side, side)."""
        return image[:, self.top : self.top + self.side, self.left : self.left + self.side]


DETAIL = Detail(photograph="coins", top=4, left=300, side=80)


def save_comparison(
    path: Path, upscale: Callable[[Tensor], Tensor], pairs: Sequence[ImagePair], *, detail: Detail = DETAIL
) -> None:
    """Save the detail as it comes in, as bicubic upsampling and as the network enlarge it, and as it was.

    Args:
        path: Where to write the PNG file.
        upscale: The trained network: takes a batch of small images, returns them at twice the size.
        pairs: Photographs, the one that the detail is cut from among them.
        detail: What to show.
    """
    pair = next(pair for pair in pairs if pair.name == detail.photograph)
    with torch.no_grad():
        panels = [
            ("low resolution", functional.interpolate(pair.low[None], scale_factor=SCALE, mode="nearest")[0]),
            (f"bicubic {measure(upscale_bicubic, [pair]).psnr:.2f} dB", upscale_bicubic(pair.low[None])[0]),
            (f"ours {measure(upscale, [pair]).psnr:.2f} dB", upscale(pair.low[None])[0]),
            ("original", pair.high),
        ]
    side = detail.side * _ENLARGE
    canvas = Image.new("RGB", (len(panels) * (side + _GAP) - _GAP, side + _TITLE_HEIGHT), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=18)
    for number, (title, image) in enumerate(panels):
        left = number * (side + _GAP)
        draw.text((left + side / 2, _TITLE_HEIGHT / 2), title, fill="black", font=font, anchor="mm")
        canvas.paste(_as_image(detail.cut(image)).resize((side, side), Image.Resampling.NEAREST), (left, _TITLE_HEIGHT))
    canvas.save(path)


def _as_image(pixels: Tensor) -> Image.Image:
    bytes_ = pixels.clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(bytes_.permute(1, 2, 0).contiguous().numpy())
