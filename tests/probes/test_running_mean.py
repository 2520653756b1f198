from __future__ import annotations

import pytest
import torch

from lightning_automations.probes.running_mean import RunningMean


def test_the_mean_of_weighted_readings() -> None:
    """The sum of value x weight over the number of readings; None of nothing."""
    losses = RunningMean()
    assert losses.mean() is None
    losses.add(torch.tensor([1.0], requires_grad=True))
    losses.add(torch.tensor(2.0, dtype=torch.bfloat16), weight=2.0)
    assert (losses.mean(), losses.count, losses.total()) == (2.5, 2, 5.0)


@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_restored_anywhere_it_gives_the_same_mean(cut: int) -> None:
    """The sum survives as a number without loss."""
    values = [0.1 * index for index in range(10)]
    whole, parts = RunningMean(), RunningMean()
    for index, value in enumerate(values):
        if index == cut:
            total, count = parts.total(), parts.count
            parts = RunningMean()
            parts.restore(total, count)
        whole.add(torch.tensor(value))
        parts.add(torch.tensor(value))
    assert parts.mean() == whole.mean()
    parts.restore(0.0, 0)
    assert parts.mean() is None
