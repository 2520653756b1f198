"""The norm of one term's gradient: as its own backward pass would give it, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_automations.probes.term_gradients import term_gradient_norm


def forward(dtype: torch.dtype = torch.float32) -> tuple[nn.Linear, Tensor]:
    """A layer and a term of it."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).to(dtype)
    return layer, layer(torch.randn(5, 4, dtype=dtype)).square().mean()


def by_backward(layer: nn.Linear, term: Tensor) -> float:
    """The slow way: a backward pass of its own, gradients laid side by side."""
    term.backward()
    return (
        torch.cat([parameter.grad.flatten() for parameter in layer.parameters() if parameter.grad is not None])
        .norm()
        .item()
    )


def test_it_is_the_norm_that_a_backward_pass_gives_and_the_pass_still_works() -> None:
    """Measured twice, before; no gradient is left behind."""
    layer, term = forward()
    measured = [term_gradient_norm(term, list(layer.parameters())) for _ in range(2)]
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert measured[0].shape == ()
    assert [norm.item() for norm in measured] == pytest.approx([by_backward(layer, term)] * 2)


def test_a_scale_keeps_small_gradients_of_half_precision() -> None:
    """Without it they vanish on their way through 16 bits."""
    inputs = torch.full((4,), 1e-4, requires_grad=True)

    def norm(scale: Tensor | None) -> float:
        term = (inputs.half() * torch.tensor(1e-4, dtype=torch.float16)).sum().float() * 1e-5
        return term_gradient_norm(term, [inputs], scale=scale).item()

    assert norm(None) == 0.0
    assert norm(torch.tensor(65536.0)) == pytest.approx(2e-9, rel=0.02)


def test_a_term_of_half_precision_bears_a_scale_that_half_precision_does_not() -> None:
    """65,536 is infinite in float16."""
    layer, term = forward(torch.float16)
    measured = term_gradient_norm(term, list(layer.parameters()), scale=torch.tensor(16.0))
    assert measured.item() == pytest.approx(by_backward(layer, term), rel=0.01)
    assert measured.dtype == torch.float32


def test_what_the_term_does_not_depend_on_counts_as_zero() -> None:
    """A detached term, another part of the network, and both kinds together."""
    layer, term = forward()
    other = nn.Linear(2, 2)
    assert term_gradient_norm(term.detach(), list(layer.parameters())).item() == 0.0
    assert term_gradient_norm(term, list(other.parameters())).item() == 0.0
    mixed = term_gradient_norm(term, [*layer.parameters(), *other.parameters()])
    assert mixed.item() == pytest.approx(by_backward(layer, term))


def test_rows_of_a_sparse_gradient_are_added_up() -> None:
    """As the optimizer sees them."""
    embedding = nn.Embedding(4, 1, sparse=True)
    term = embedding(torch.tensor([1, 1, 2])).sum()
    assert term_gradient_norm(term, [embedding.weight]).item() == pytest.approx(5**0.5)


def test_hooks_of_distributed_training_are_not_called() -> None:
    """They wait for gradients to be accumulated, as DistributedDataParallel does."""
    layer, term = forward()
    calls: list[Tensor] = []
    layer.weight.register_post_accumulate_grad_hook(calls.append)
    term_gradient_norm(term, list(layer.parameters()))
    assert calls == []
    term.backward()
    assert len(calls) == 1


def test_reentrant_checkpointing_cannot_be_measured() -> None:
    """Torch says so of what is before it, and sees nothing of what is in it; the graph is as it was."""
    before, inside = nn.Linear(4, 4), nn.Linear(4, 1)
    term = checkpoint(inside, before(torch.ones(2, 4)), use_reentrant=True).sum()  # type: ignore[union-attr]
    assert term_gradient_norm(term, list(inside.parameters())).item() == 0.0
    with pytest.raises(RuntimeError, match="heckpoint"):
        term_gradient_norm(term, list(before.parameters()))
    term.backward()
    assert before.weight.grad is not None
    assert inside.weight.grad is not None
