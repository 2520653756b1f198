"""The photographs of the demo: where they come from, how they are split, and what is cut from them."""

from pathlib import Path

import pytest
import skimage
import torch
from torch.nn import functional

from lightning_automations.cli.demo.model import Quality, UpscalingNetwork, measure
from lightning_automations.cli.demo.photographs import (
    TRAINING,
    VALIDATION,
    ImagePair,
    Photograph,
    RandomCrops,
    as_pairs,
    downscale,
    training_loader,
    upscale_bicubic,
    validation_loader,
)

NUMBERED = torch.arange(3 * 8 * 12, dtype=torch.float32).reshape(3, 8, 12) / 288


@pytest.fixture(scope="module")
def coffee() -> list[ImagePair]:
    """One photograph with colours."""
    return as_pairs([Photograph("coffee", ("coffee.png",))])


def numbered_pair() -> ImagePair:
    """A small image in which every pixel is another one, and its half by taking every other pixel."""
    return ImagePair(name="numbered", low=NUMBERED[:, ::2, ::2], high=NUMBERED)


def test_no_photograph_is_in_both_sets() -> None:
    """Neither a name nor a file is shared, and no file is listed twice."""
    names = [photograph.name for photograph in (*TRAINING, *VALIDATION)]
    files = [file for photograph in (*TRAINING, *VALIDATION) for file in photograph.files]
    assert len(set(names)) == len(names)
    assert len(set(files)) == len(files)


def test_the_stereo_pair_is_one_photograph() -> None:
    """Both views of the motorcycle show the same scene, so they are on the same side."""
    views = {"motorcycle_left.png", "motorcycle_right.png"}
    homes = [photograph for photograph in (*TRAINING, *VALIDATION) if views & set(photograph.files)]
    assert [set(photograph.files) for photograph in homes] == [views]


def test_every_photograph_lies_in_the_wheel() -> None:
    """Nothing has to be downloaded: all files are in the installed package."""
    folder = Path(skimage.__file__).parent / "data"
    files = {file for photograph in (*TRAINING, *VALIDATION) for file in photograph.files}
    assert files <= {path.name for path in folder.iterdir()}


def test_images_have_even_sides_and_half_size_twins() -> None:
    """Every image is three channels in [0, 1], twice as large as its low-resolution version."""
    for pair in as_pairs(VALIDATION):
        channels, height, width = pair.high.shape
        assert (channels, height % 2, width % 2) == (3, 0, 0)
        assert pair.low.shape == (3, height // 2, width // 2)
        for image in (pair.low, pair.high):
            assert 0 <= image.min() < image.max() <= 1


def test_downscaling_removes_what_half_the_size_cannot_show() -> None:
    """A pattern of single pixels becomes an even grey; without the filter it would become a false pattern."""
    stripes = torch.tensor([0.0, 1.0, 0.0]).repeat(3, 48, 16)
    contrast = downscale(stripes)[:, 8:-8, 8:-8].std()
    unfiltered = functional.interpolate(stripes[None], scale_factor=0.5, mode="bicubic")[0, :, 8:-8, 8:-8].std()
    assert contrast < 0.5 * unfiltered


def test_downscaled_values_are_those_of_an_8_bit_image() -> None:
    """The network gets no more precision than a saved image has."""
    values = downscale(NUMBERED) * 255
    assert torch.allclose(values, values.round(), atol=1e-3)


def test_every_crop_shows_the_same_place_in_both_sizes() -> None:
    """Whatever the index, the small crop holds pixels of the large one and is turned as it is turned."""
    crops = RandomCrops([numbered_pair()], crop_pixels=4)
    seen = set()
    for index in range(len(crops)):
        low, high = crops[index]
        assert (low.shape, high.shape) == ((3, 2, 2), (3, 4, 4))
        assert set(low.flatten().tolist()) <= set(high.flatten().tolist())
        # Values rise evenly along both sides, so a step in the small image is two steps in the large one.
        assert torch.allclose(low[:, 1, 0] - low[:, 0, 0], 2 * (high[:, 1, 0] - high[:, 0, 0]), atol=1e-5)
        assert torch.allclose(low[:, 0, 1] - low[:, 0, 0], 2 * (high[:, 0, 1] - high[:, 0, 0]), atol=1e-5)
        seen.add(tuple(high.flatten().tolist()))
    assert len(seen) == len(crops)


def test_crops_cover_all_images() -> None:
    """The first and the last index belong to the first and the last image, and one after the last to none."""
    bright = ImagePair(name="bright", low=NUMBERED[:, ::2, ::2] + 1, high=NUMBERED + 1)
    crops = RandomCrops([numbered_pair(), bright], crop_pixels=4)
    assert len(crops) == 2 * len(RandomCrops([numbered_pair()], crop_pixels=4))
    assert crops[0][1].max() <= 1 < crops[len(crops) - 1][1].min() + 1e-6
    half = len(crops) // 2
    assert crops[half - 1][1].max() <= 1 <= crops[half][1].min()


def test_the_seed_alone_decides_what_is_trained_on() -> None:
    """Two loaders with one seed give the same crops in the same order, whatever else draws random numbers."""

    def drawn(seed: int) -> torch.Tensor:
        loader = training_loader([numbered_pair()], crop_pixels=4, crops_per_epoch=6, batch_size=2, seed=seed)
        batches = []
        for low, _ in loader:
            torch.rand(1)
            batches.append(low)
        return torch.cat(batches)

    torch.manual_seed(1)
    first = drawn(seed=5)
    torch.manual_seed(2)
    assert torch.equal(first, drawn(seed=5))
    assert not torch.equal(first, drawn(seed=6))
    assert len(first) == 6


def test_validation_takes_photographs_whole(coffee: list[ImagePair]) -> None:
    """The loader hands out one full image at a time."""
    ((low, high),) = validation_loader(coffee)
    assert low.shape == (1, 3, 200, 300)
    assert high.shape == (1, 3, 400, 600)


def test_psnr_is_that_of_its_definition(coffee: list[ImagePair]) -> None:
    """The measured PSNR of bicubic upsampling is ten times the logarithm of one over the mean squared error."""
    upscaled = upscale_bicubic(coffee[0].low[None])[0].clamp(0, 1)
    expected = -10 * torch.log10((upscaled - coffee[0].high).square().mean()).item()
    measured = measure(upscale_bicubic, coffee)
    assert measured.psnr == pytest.approx(expected, abs=1e-3)
    assert 25 < measured.psnr < 35
    assert 0.5 < measured.ssim < 1


def test_bicubic_upsampling_beats_repeated_pixels(coffee: list[ImagePair]) -> None:
    """The baseline is the stronger one of the two that need no training."""

    def nearest(low: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(low, scale_factor=2, mode="nearest")

    assert measure(upscale_bicubic, coffee).psnr > measure(nearest, coffee).psnr + 1


def test_the_untrained_network_is_bicubic_upsampling(coffee: list[ImagePair]) -> None:
    """Before the first step there is nothing gained and nothing lost."""
    network = UpscalingNetwork(channels=4, blocks=1)
    assert torch.equal(network(coffee[0].low[None]), upscale_bicubic(coffee[0].low[None]))
    assert isinstance(measure(network, coffee), Quality)
    assert measure(network, coffee) == measure(upscale_bicubic, coffee)
