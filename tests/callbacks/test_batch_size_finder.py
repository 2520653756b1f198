"""Side by side with Lightning's BatchSizeFinder, in the cases where it dies or misses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import BatchSizeFinder
from torch.utils.data import DataLoader

from lightning_automations import DynamicBatchSizeOptimizer
from tests.callbacks.helpers import make_trainer, regression_data, weights
from tests.callbacks.memory_helpers import UNLIMITED, Limited

SAMPLES = 128


class Own(Limited):
    """Holds so many samples, and makes its own loader as BatchSizeFinder asks for it."""

    def __init__(self, fits: int, batch_size: int) -> None:
        super().__init__(fits)
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(regression_data(SAMPLES), batch_size=self.batch_size)


def fitted(module: Own, callback: Any, folder: Path, **arguments: Any) -> Own:
    """The module after one epoch."""
    torch.manual_seed(1)
    make_trainer([callback], max_epochs=1, default_root_dir=folder).fit(module, **arguments)
    return module


def ends_like_one_with_enough_memory(fits: int, folder: Path, batch_size: int) -> None:
    """With ours, the run has the steps and the weights of a run that never ran out."""
    enough, short = (
        fitted(Own(most, batch_size), DynamicBatchSizeOptimizer(), folder / str(most)) for most in (UNLIMITED, fits)
    )
    assert enough.failures == 0 < short.failures
    assert short.batch_size == batch_size
    assert max(short.sizes[-2:]) <= fits
    assert short.trainer.global_step == enough.trainer.global_step == SAMPLES // batch_size
    for ours, plain in zip(weights(short), weights(enough), strict=True):
        assert torch.allclose(ours, plain, rtol=1e-6, atol=1e-6)


def test_at_one_sample_the_finder_goes_to_none_and_leaves_its_checkpoint(tmp_path: Path) -> None:
    """Where its first size does not fit it halves one sample to no sample; ours runs samples one by one."""
    with pytest.raises(ValueError, match="batch_size=0"):
        fitted(Own(0, 64), BatchSizeFinder(init_val=1), tmp_path / "finder")
    assert list((tmp_path / "finder").rglob(".scale_batch_size_*.ckpt"))
    with pytest.raises(ValueError, match="batch_size=0"):
        fitted(Own(1, 64), BatchSizeFinder(init_val=1), tmp_path / "one")
    ends_like_one_with_enough_memory(1, tmp_path, 64)


def test_the_finder_returns_a_size_that_it_has_not_tried(tmp_path: Path) -> None:
    """It doubles up to all 128 samples where 100 fit, and the fit dies; ours goes on."""
    module = Own(100, 64)
    with pytest.raises(torch.OutOfMemoryError):
        fitted(module, BatchSizeFinder(init_val=2), tmp_path / "finder")
    assert module.batch_size == SAMPLES
    ends_like_one_with_enough_memory(100, tmp_path, SAMPLES)


def test_the_finder_trains_with_another_batch(tmp_path: Path) -> None:
    """Where 5 samples fit it makes 32 steps of 4 samples; ours makes the 2 steps of 64 that were asked for."""
    module = fitted(Own(5, 64), BatchSizeFinder(), tmp_path / "finder")
    assert (module.batch_size, module.trainer.global_step) == (4, SAMPLES // 4)
    ends_like_one_with_enough_memory(5, tmp_path, 64)


def test_the_finder_refuses_loaders_that_are_given_to_fit(tmp_path: Path) -> None:
    """The most usual way to train; ours takes it."""
    data = DataLoader(regression_data(SAMPLES), batch_size=64)
    with pytest.raises(MisconfigurationException, match="dataloaders"):
        fitted(Own(5, 64), BatchSizeFinder(), tmp_path, train_dataloaders=data)
    assert fitted(Own(5, 64), DynamicBatchSizeOptimizer(), tmp_path, train_dataloaders=data).failures == 4
