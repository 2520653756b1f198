"""Batches whose first dimension is not the samples: cut there, a recurrent network would see half of each sequence."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from lightning_automations import DynamicBatchSizeOptimizer
from tests.callbacks.helpers import make_trainer, weights

UNLIMITED = 10**9
SAMPLES = 64


class Recurrent(pl.LightningModule):
    """A recurrent network on sequences, whose training step holds only so many numbers.

    Args:
        fits: The most numbers in the inputs that a step can take.
        batch_first: Whether samples come first, or time.
    """

    def __init__(self, fits: int = UNLIMITED, *, batch_first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.recurrent = nn.RNN(4, 8, batch_first=batch_first)
        self.last = nn.Linear(8, 1)
        self.fits = fits
        self.shapes: list[tuple[int, ...]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        self.shapes.append(tuple(inputs.shape[:2]))
        if inputs.numel() > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return nn.functional.mse_loss(self.last(self.recurrent(inputs)[0]), targets)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def sequences(steps: int, *, time_first: bool = True, samples: int = SAMPLES, own_sampler: bool = False) -> Any:
    """Batches of 16 sequences of so many steps; the targets are running sums."""
    items = list(torch.randn(samples, steps, 4, generator=torch.Generator().manual_seed(0)))

    def collate(chosen: list[Tensor]) -> tuple[Tensor, Tensor]:
        inputs = torch.stack(chosen, 1 if time_first else 0)
        return inputs, inputs.cumsum(0 if time_first else 1).sum(-1, keepdim=True)

    if own_sampler:
        sampler = BatchSampler(RandomSampler(range(samples)), batch_size=16, drop_last=False)
        return DataLoader(items, batch_sampler=sampler, collate_fn=collate)  # type: ignore[arg-type]
    return DataLoader(items, batch_size=16, collate_fn=collate)  # type: ignore[arg-type]


@pytest.mark.parametrize("own_sampler", [False, True])
@pytest.mark.parametrize("steps", [20, 10])
def test_sequences_with_time_first_are_not_cut_in_time(steps: int, own_sampler: bool) -> None:
    """The error passes with a message: training on half of each sequence would be another training, and silent."""
    module, automation = Recurrent(steps * 16 * 4 - 1), DynamicBatchSizeOptimizer()
    with pytest.raises(torch.OutOfMemoryError, match="This batch cannot be split: its number of samples is not clear"):
        make_trainer([automation], max_epochs=2).fit(module, sequences(steps, own_sampler=own_sampler))
    assert module.shapes == [(steps, 16)]
    assert automation.adjustments == []


@pytest.mark.parametrize("steps", [20, 10])
def test_an_error_in_the_smaller_last_batch_cuts_no_time_either(steps: int) -> None:
    """Eight samples are left: sequences of 10 steps look like a smaller last batch of 10."""

    class FailsAtTheEnd(Recurrent):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            self.fits = 1 if batch_idx == 2 else UNLIMITED
            return super().training_step(batch, batch_idx)

    module = FailsAtTheEnd()
    with pytest.raises(torch.OutOfMemoryError, match="cannot be split"):
        make_trainer([DynamicBatchSizeOptimizer()], max_epochs=1).fit(module, sequences(steps, samples=40))
    assert module.shapes == [(steps, 16), (steps, 16), (steps, 8)]


def test_sequences_with_samples_first_are_cut_as_before() -> None:
    """Pieces of samples, the smaller last batch too: the weights are those of a run with enough memory."""
    plain, limited = Recurrent(batch_first=True), Recurrent(20 * 5 * 4, batch_first=True)
    data = {"time_first": False, "samples": 40}
    make_trainer([], max_epochs=2).fit(plain, sequences(20, **data))
    make_trainer([DynamicBatchSizeOptimizer()], max_epochs=2).fit(limited, sequences(20, **data))
    assert limited.shapes[:6] == [(16, 20), (8, 20), (4, 20), (4, 20), (4, 20), (4, 20)]
    assert all(size <= 5 for size, _ in limited.shapes[2:])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(limited), weights(plain), strict=True))
