"""Norms of gradients, and what is done to gradients on the device."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed
from torch import Tensor, nn

from lightning_automations.probes.gradient_norm import (
    clip_to,
    drop_gradients,
    parameters_with_gradients,
    sharded,
    total_norm,
    zero_gradients,
)


def parameters(*gradients: list[float] | None) -> list[Tensor]:
    """Parameters with these gradients."""
    made: list[Tensor] = []
    for values in gradients:
        parameter = nn.Parameter(torch.zeros(2))
        parameter.grad = None if values is None else torch.tensor(values)
        made.append(parameter)
    return made


def sparse_embedding() -> nn.Embedding:
    """An embedding whose sparse gradient holds row 1 twice (2 in each place) and row 4 once (1 in each place)."""
    embedding = nn.Embedding(6, 2, sparse=True)
    embedding(torch.tensor([1, 4, 1])).sum().backward()
    return embedding


def test_only_parameters_with_gradients_are_seen() -> None:
    """Frozen and unused parameters have none."""
    made = parameters([3.0, 0.0], None, [0.0, 4.0])
    optimizer = torch.optim.SGD([{"params": made[:2]}, {"params": made[2:]}], lr=0.1)
    assert [id(parameter) for parameter in parameters_with_gradients(optimizer)] == [id(made[0]), id(made[2])]


def test_the_norm_is_that_of_one_long_vector() -> None:
    """The square root of the sum of all squares."""
    assert total_norm(parameters([3.0, 0.0], [0.0, 4.0])).item() == 5.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_value_shows_in_the_norm(bad: float) -> None:
    """NaN and infinity cannot hide behind finite gradients."""
    assert not math.isfinite(total_norm(parameters([1.0, 2.0], [bad, 0.0])).item())


def test_sparse_gradients_count_with_their_rows_added_up() -> None:
    """The norm is that of the dense gradient."""
    embedding = sparse_embedding()
    assert embedding.weight.grad is not None
    assert not embedding.weight.grad.is_coalesced()
    assert total_norm([embedding.weight]).item() == pytest.approx(math.sqrt(10))


@pytest.mark.parametrize(("norm", "left"), [(0.0, 0.0), (1.5, 1.5), (2.0, 2.0), (5.0, 2.0), (6.5, 0.5), (1e15, 0.5)])
def test_a_norm_above_the_threshold_is_scaled_to_it_and_a_far_outlier_to_the_usual_norm(
    norm: float, left: float
) -> None:
    """Below the threshold nothing changes; from three times the threshold on the usual norm is left."""
    made = parameters([norm, 0.0], [0.0, 0.0])
    clip_to(made, total_norm(made), threshold=2.0, usual=0.5, far_outlier=3.0)
    assert total_norm(made).item() == pytest.approx(left, rel=1e-5)


def test_a_norm_that_overflows_counts_as_infinite() -> None:
    """The squares of gradients of 1e20 do not fit into float32."""
    assert total_norm(parameters([1e20, 0.0])).item() == math.inf


def test_gradients_in_a_tiny_unit_are_left_alone_below_the_threshold() -> None:
    """Torch's own clipping adds 1e-6 to the norm and would scale these down to a hundredth."""
    made = parameters([1e-8, 0.0])
    clip_to(made, total_norm(made), threshold=2e-8, usual=1e-8, far_outlier=3.0)
    assert made[0].grad is not None
    assert made[0].grad.tolist() == [pytest.approx(1e-8), 0.0]


def test_sparse_gradients_are_clipped() -> None:
    """They stay sparse and have the norm that was asked for."""
    embedding = sparse_embedding()
    made = [embedding.weight]
    clip_to(made, total_norm(made), threshold=1.0, usual=1.0, far_outlier=3.0)
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.is_sparse
    assert total_norm(made).item() == pytest.approx(1.0, rel=1e-5)


def test_dropped_gradients_are_gone() -> None:
    """None, which optimizers pass over, not zero."""
    made = parameters([3.0, 0.0], None)
    drop_gradients(made)
    assert [parameter.grad for parameter in made] == [None, None]


@pytest.mark.parametrize(("flag", "left"), [(True, 0.0), (False, 4.0)])
def test_gradients_are_zeroed_where_the_flag_says_so(flag: bool, left: float) -> None:
    """NaN does not survive it, and without the flag nothing is touched; sparse gradients too."""
    made = [*parameters([math.nan if flag else 4.0, 0.0]), sparse_embedding().weight]
    zero_gradients(made, where=torch.tensor(flag))
    assert total_norm(made[:1]).item() == left
    assert total_norm(made[1:]).item() == pytest.approx(0.0 if flag else math.sqrt(10))


@pytest.mark.filterwarnings("ignore:DTensor random operators may not have complete support:UserWarning")  # torch 2.6
def test_sharded_parameters_are_recognised() -> None:
    """A DTensor holds a part of the parameter; an ordinary one does not."""
    from torch.distributed.tensor import DeviceMesh, Replicate, distribute_tensor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        part = nn.Parameter(distribute_tensor(torch.zeros(2), DeviceMesh("cpu", [0]), [Replicate()]))
    finally:
        torch.distributed.destroy_process_group()
    assert sharded([torch.zeros(2), part])
    assert not sharded(parameters([1.0, 2.0]))
