"""Norms of gradients, and what is done to gradients on the device."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn

from lightning_automations.core.gradient_clipping import Limit
from lightning_automations.probes.gradient_norm import (
    clip_on_device,
    drop_gradients,
    gradient_norms,
    is_sharded,
    norm_of_huge,
    parameters_with_gradients,
    scale_gradients,
    shardings,
    total_norm,
    zero_gradients,
)
from lightning_automations.probes.skip_flag import give_flag, skips_by_flag, take_flag, takes_flag

LIMIT = Limit(threshold=2.0, usual=0.5)


def parameters(*gradients: list[float] | None, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Parameters with these gradients."""
    made: list[Tensor] = []
    for values in gradients:
        parameter = nn.Parameter(torch.zeros(2 if values is None else len(values), dtype=dtype))
        parameter.grad = None if values is None else torch.tensor(values, dtype=dtype)
        made.append(parameter)
    return made


def norm_of(made: list[Tensor]) -> Tensor:
    """The norm of all gradients."""
    return total_norm(gradient_norms(made))


def clip(made: list[Tensor], *, threshold: float, usual: float, far: float = 3.0) -> None:
    """Clip on the device at the norm that the gradients have."""
    clip_on_device(made, norm_of(made), threshold=threshold, usual=usual, far=far)


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
    assert norm_of(parameters([3.0, 0.0], [0.0, 4.0])).item() == 5.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_value_shows_in_the_norm(bad: float) -> None:
    """NaN and infinity cannot hide behind finite gradients."""
    assert not math.isfinite(norm_of(parameters([1.0, 2.0], [bad, 0.0])).item())


def test_sparse_gradients_count_with_their_rows_added_up() -> None:
    """The norm is that of the dense gradient."""
    embedding = sparse_embedding()
    assert embedding.weight.grad is not None
    assert not embedding.weight.grad.is_coalesced()
    assert norm_of([embedding.weight]).item() == pytest.approx(math.sqrt(10))


@pytest.mark.parametrize("norm", [0.0, 1.5, 2.0, 5.0, 6.5, 1e15])
def test_on_the_device_as_much_is_left_as_the_limit_says(norm: float) -> None:
    """The device's arithmetic and the brain's words are the same rule."""
    made = parameters([norm, 0.0], [0.0, 0.0])
    clip(made, threshold=LIMIT.threshold, usual=LIMIT.usual, far=LIMIT.far)
    assert norm_of(made).item() == pytest.approx(LIMIT.left_of(norm), rel=1e-5)


def test_gradients_of_several_kinds_have_one_norm() -> None:
    """Half, single and double precision side by side, as a loop over all numbers has it."""
    made = parameters([3.0, 1.0], [2.0, 4.0], [0.5, 0.25])
    for parameter, kind in zip(made, (torch.float16, torch.float32, torch.float64), strict=True):
        parameter.data = parameter.data.to(kind)
        parameter.grad = torch.tensor([1.5, 2.5], dtype=kind)
    assert norm_of(made).item() == pytest.approx(math.sqrt(3 * (1.5**2 + 2.5**2)), rel=1e-3)


def test_gradients_are_scaled_sparse_ones_too() -> None:
    """By a number that is known."""
    made = [*parameters([3.0, 4.0]), sparse_embedding().weight]
    before = gradient_norms(made)
    scale_gradients(made, 0.5)
    assert gradient_norms(made).tolist() == pytest.approx((before / 2).tolist())


def test_a_norm_that_overflows_counts_as_infinite() -> None:
    """The squares of gradients of 1e20 do not fit into float32."""
    assert norm_of(parameters([1e20, 0.0])).item() == math.inf


def test_gradients_in_a_tiny_unit_are_left_alone_below_the_threshold() -> None:
    """Torch's own clipping adds 1e-6 to the norm and would scale these down to a hundredth."""
    made = parameters([1e-8, 0.0])
    clip(made, threshold=2e-8, usual=1e-8)
    assert made[0].grad is not None
    assert made[0].grad.tolist() == [pytest.approx(1e-8), 0.0]


def test_sparse_gradients_are_clipped() -> None:
    """They stay sparse and have the norm that was asked for."""
    embedding = sparse_embedding()
    made = [embedding.weight]
    clip(made, threshold=1.0, usual=1.0)
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.is_sparse
    assert norm_of(made).item() == pytest.approx(1.0, rel=1e-5)


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
    assert norm_of(made[:1]).item() == left
    assert norm_of(made[1:]).item() == pytest.approx(0.0 if flag else math.sqrt(10))


@pytest.mark.filterwarnings("ignore:DTensor random operators may not have complete support:UserWarning")  # torch 2.6
def test_sharded_parameters_are_recognised() -> None:
    """A DTensor holds a part of the parameter; an ordinary one does not."""
    from torch.distributed.tensor import DeviceMesh, Replicate, distribute_tensor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        part = nn.Parameter(distribute_tensor(torch.zeros(2), DeviceMesh("cpu", [0]), [Replicate()]))
    finally:
        torch.distributed.destroy_process_group()
    assert is_sharded(part)
    assert shardings([torch.zeros(2), part]) == {None, part.device_mesh}
    assert shardings(parameters([1.0, 2.0])) == {None}


MAKERS = {
    "adam": lambda parameters, **options: torch.optim.Adam(parameters, lr=0.1, **options),
    "adamw": lambda parameters, **options: torch.optim.AdamW(parameters, lr=0.1, **options),
    "adagrad": lambda parameters, **options: torch.optim.Adagrad(parameters, lr=0.1, **options),
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, **options),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_fused_optimizer_skips_where_the_flag_says_so(make: Any) -> None:
    """Weights and state stay bit for bit as they were; without the flag it steps, and once taken away it is gone."""
    (parameter,) = parameters([1.0, 2.0])
    optimizer = make([parameter], fused=True)
    optimizer.step()
    assert takes_flag(optimizer, [parameter])
    for bad in (True, False):
        before = copy.deepcopy((parameter, optimizer.state_dict()["state"]))
        parameter.grad = torch.full((2,), math.nan if bad else 1.0)
        give_flag(optimizer, torch.tensor(bad))
        optimizer.step()
        after = (parameter, optimizer.state_dict()["state"])
        if bad:
            torch.testing.assert_close(after, before, rtol=0, atol=0)
        else:
            assert not torch.equal(after[0], before[0])
    take_flag(optimizer)
    assert not hasattr(optimizer, "found_inf")


def test_only_fused_optimizers_that_have_stepped_take_a_flag() -> None:
    """A first step that is skipped by it would leave momentum that nobody has set."""
    made = parameters([1.0, 2.0], None)
    assert not skips_by_flag(MAKERS["sgd"](made))
    fused = MAKERS["sgd"](made, fused=True)
    assert skips_by_flag(fused)
    assert not takes_flag(fused, made)
    fused.step()
    assert takes_flag(fused, made[:1])
    assert not takes_flag(fused, made)
    without_momentum = torch.optim.SGD(made, lr=0.1, fused=True)
    assert takes_flag(without_momentum, made)


def test_the_groups_say_whether_an_optimizer_is_fused() -> None:
    """A group may be otherwise than the default, and a checkpoint makes all of them otherwise; one may be empty."""
    first, second = parameters([1.0, 2.0], [3.0])
    assert not skips_by_flag(torch.optim.AdamW([{"params": [first]}, {"params": [second], "fused": False}], fused=True))
    assert skips_by_flag(torch.optim.AdamW([{"params": []}, {"params": [first]}], fused=True))
    resumed = torch.optim.AdamW([first], fused=True)
    resumed.load_state_dict(torch.optim.AdamW([first]).state_dict())
    assert not skips_by_flag(resumed)


def test_norms_of_half_precision_do_not_overflow() -> None:
    """65,504 is the largest number of 16 bits; a norm is beyond it sooner than its gradients."""
    made = parameters([3e4] * 100, [3e4] * 100, dtype=torch.float16)
    assert total_norm(gradient_norms(made)).item() == pytest.approx(3e4 * math.sqrt(200), rel=1e-3)
    narrow = torch.tensor([6e4, 6e4], dtype=torch.float16)
    assert total_norm(narrow).item() == pytest.approx(6e4 * math.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("values", [[3e30, -4e30, 0.0], [1e38, 1e38, 1.0], [2.0, -1.0, 2.0]])
def test_the_norm_of_huge_gradients_is_that_of_their_float64_twin(values: list[float]) -> None:
    """Where squares overflow in 32 bits; an empty parameter counts for nothing."""
    made = parameters(values, [], [1.0])
    expected = torch.tensor([*values, 1.0], dtype=torch.float64).norm().item()
    assert norm_of_huge(made) == pytest.approx(expected)


@pytest.mark.parametrize(("bad", "norm"), [(math.inf, math.inf), (-math.inf, math.inf), (math.nan, math.nan)])
def test_a_norm_that_is_not_finite_stays_so(bad: float, norm: float) -> None:
    """One such number is enough."""
    made = parameters([1.0, bad], [math.inf if math.isnan(bad) else 1.0])
    assert norm_of_huge(made) == pytest.approx(norm, nan_ok=True)


def test_norms_of_sparse_gradients_leave_them_as_they_are() -> None:
    """Who only looks changes nothing; rows that occur twice count added up."""
    weight = sparse_embedding().weight
    assert norm_of([weight]).item() == pytest.approx(math.sqrt(10))
    assert weight.grad is not None
    assert not weight.grad.is_coalesced()
