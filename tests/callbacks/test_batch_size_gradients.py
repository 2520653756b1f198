"""The gradient of a batch in pieces against that of the whole, in the precisions that people train in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_automations import DynamicBatchSizeOptimizer
from tests.callbacks.helpers import FEATURES, make_trainer, weights
from tests.callbacks.memory_helpers import Limited, Outputs, loader, started_at, trained

RELATIVE = {
    "32-true": 1e-6,
    # A number of 8 binary digits is known to one in 256; sums of pieces round elsewhere than the sum of the whole.
    "bf16-mixed": 2**-7,
}


def first_gradients(module: Limited) -> torch.Tensor:
    """All gradients of the first optimizer step; later ones see weights that have rounded differently."""
    return torch.cat([gradient.flatten().float() for gradient in module.gradients[-1] if gradient is not None])


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("precision", RELATIVE)
@pytest.mark.parametrize("fits", [7, 3, 1])
def test_the_gradient_of_unequal_pieces_is_that_of_the_batch(precision: Any, accumulation: int, fits: int) -> None:
    """Relative to the size of the whole gradient, after the window of the first step."""
    options: dict[str, Any] = {
        "precision": precision,
        "accumulate_grad_batches": accumulation,
        "max_epochs": 1,
        "limit_train_batches": accumulation,
    }
    whole, pieces = Limited(), Limited(fits)
    trained(whole, **options)
    trained(pieces, DynamicBatchSizeOptimizer(), **options)
    assert pieces.failures > 0
    expected, found = first_gradients(whole), first_gradients(pieces)
    assert (found - expected).norm() <= RELATIVE[precision] * expected.norm()


@pytest.mark.parametrize("precision", RELATIVE)
@pytest.mark.parametrize("accumulation", [1, 4])
def test_with_dropout_it_is_bit_for_bit_the_run_that_started_at_that_size(precision: Any, accumulation: int) -> None:
    """Random generators are put back before the second try: nothing shows that there was a first one."""

    def module(**limits: Any) -> Limited:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1))
        return Limited(layers=layers, random_noise=True, **limits)

    surprised, warned = module(fits=5), module()
    options: dict[str, Any] = {"precision": precision, "accumulate_grad_batches": accumulation}
    trained(surprised, DynamicBatchSizeOptimizer(), **options)
    trained(warned, started_at(5), **options)
    assert surprised.failures > 0
    assert all(map(torch.equal, weights(surprised), weights(warned)))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_loader_of_256_trains_with_the_defaults_as_without(precision: Any) -> None:
    """``max_batch_size`` is 32 by default: it bounds growth, and splits nothing that memory holds."""
    runs = []
    for callbacks in ([], [DynamicBatchSizeOptimizer()]):
        module, seen = Limited(), Outputs()
        torch.manual_seed(1)
        trainer = make_trainer(
            [*callbacks, seen], max_epochs=3, log_every_n_steps=1, precision=precision, accumulate_grad_batches=2
        )
        trainer.fit(module, loader(256, 1000, shuffle=True))
        runs.append((module, seen, trainer))
    (plain, expected, without), (ours, seen, trainer) = runs
    assert ours.sizes == plain.sizes == [256, 256, 256, 232] * 3
    assert all(map(torch.equal, weights(ours), weights(plain)))
    assert [seen.logged, seen.epochs] == [expected.logged, expected.epochs]
    assert trainer.global_step == without.global_step
    assert [
        callback.adjustments for callback in trainer.callbacks if isinstance(callback, DynamicBatchSizeOptimizer)
    ] == [[]]
