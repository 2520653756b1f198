"""What we rely on in Lightning's mixed precision."""

from __future__ import annotations

import pytest
import torch

from lightning_automations.lightning_internals import unscales_by_itself


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_fused_optimizers_unscale_by_themselves(kind: type[torch.optim.Optimizer]) -> None:
    """Lightning leaves their gradients scaled until their step."""
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    assert unscales_by_itself(kind(parameters, lr=0.1, fused=True))  # type: ignore[call-arg]
    assert not unscales_by_itself(kind(parameters, lr=0.1))  # type: ignore[call-arg]
