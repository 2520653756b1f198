"""A run goes back to its snapshot bit for bit, beside a slow twin that copies everything."""

from __future__ import annotations

import copy
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_automations.probes.snapshot import Snapshot, SnapshotParts
from tests.probes.snapshot_runs import OPTIMIZERS, Net, assert_same, everything, started, train, twin_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("taken_at", [0, 3])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_goes_back_and_on_as_its_twin(kind: str, taken_at: int, dtype: torch.dtype) -> None:
    """After a restore it is, bit for bit, the copy that was set aside, and so it stays."""
    if (kind, dtype) == ("lbfgs", torch.bfloat16):
        dtype = torch.float64  # its line of descent is lost in so few bits
    module = Net().to(dtype)
    optimizer = OPTIMIZERS[kind](p for p in module.parameters() if p.requires_grad)
    train(module, optimizer, first=0, steps=taken_at)
    parts, snapshot = SnapshotParts([module], [optimizer]), Snapshot()
    snapshot.take(parts, step=taken_at)
    twin, twin_optimizer = twin_of(module, optimizer, kind)
    objects = list(module.parameters())
    train(module, optimizer, first=50, steps=4)
    snapshot.restore(parts)
    assert_same(everything(module, optimizer), everything(twin, twin_optimizer))
    assert all(now is then for now, then in zip(module.parameters(), objects, strict=True))
    assert all(parameter.grad is None for parameter in module.parameters())
    for run in ((module, optimizer), (twin, twin_optimizer)):
        train(*run, first=taken_at, steps=4)
    assert_same(everything(module, optimizer), everything(twin, twin_optimizer))


def test_a_snapshot_goes_back_more_than_once() -> None:
    """A restore leaves the copies as they are: training on does not write into them."""
    module, optimizer, parts = started("lbfgs")
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    twin = copy.deepcopy((module, optimizer))
    for _ in range(2):
        optimizer.state.clear()  # what is missing is made anew, and is no copy of ours
        snapshot.restore(parts)
        train(module, optimizer, first=20, steps=3)
    snapshot.restore(parts)
    assert_same(everything(module, optimizer), everything(*twin))


def test_optimizer_state_is_put_back_in_place() -> None:
    """Captured graphs write to the tensors they know."""
    _, optimizer, parts = started("adam")
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    before = [value for state in optimizer.state.values() for value in state.values()]
    snapshot.restore(parts)
    after = [value for state in optimizer.state.values() for value in state.values()]
    assert before
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_learning_rates_stay() -> None:
    """Nothing in the parameter groups goes back."""
    _, optimizer, parts = started()
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    optimizer.param_groups[0]["lr"] = 0.5
    snapshot.restore(parts)
    assert optimizer.param_groups[0]["lr"] == 0.5


def copies_in(value: Any) -> list[Tensor]:
    """All tensors of a snapshot's state."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else []
    return [tensor for item in items for tensor in copies_in(item)]


@pytest.mark.parametrize("kind", ["adam", "lbfgs"])
def test_taking_again_uses_the_same_memory(kind: str) -> None:
    """No copy is allocated anew, and the values are those of the second time."""
    module, optimizer, parts = started(kind, steps=6)
    snapshot = Snapshot()
    snapshot.take(parts, step=6)
    before = [tensor.data_ptr() for tensor in copies_in(snapshot.state_dict())]
    train(module, optimizer, first=6, steps=1)
    snapshot.take(parts, step=7)
    twin = copy.deepcopy((module, optimizer))
    assert [tensor.data_ptr() for tensor in copies_in(snapshot.state_dict())] == before
    train(module, optimizer, first=7, steps=1)
    snapshot.restore(parts)
    assert snapshot.step == 7
    assert_same(everything(module, optimizer), everything(*twin))


def test_a_snapshot_goes_through_a_file(tmp_path: Path) -> None:
    """Saved, loaded with ``weights_only=True`` and restored into a fresh run, it is the run of then."""
    module, optimizer, parts = started("adam")
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    torch.save(snapshot.state_dict(), tmp_path / "snapshot.pt")
    fresh = started("adam", steps=0)
    loaded = Snapshot()
    loaded.load_state_dict(torch.load(tmp_path / "snapshot.pt", weights_only=True))
    loaded.restore(fresh[2])
    assert loaded.step == 3
    assert loaded.nbytes == snapshot.nbytes
    assert_same(everything(*fresh[:2]), everything(module, optimizer))


def test_two_optimizers_keep_their_own_state() -> None:
    """Each goes back to its own."""
    module = Net()
    pair: list[Optimizer] = [
        torch.optim.Adam(module.first.parameters(), lr=0.1),
        torch.optim.SGD(module.norm.parameters(), lr=0.1, momentum=0.9),
    ]
    parts, snapshot = SnapshotParts([module], pair), Snapshot()
    for optimizer in pair:
        train(module, optimizer, first=0, steps=2)
    snapshot.take(parts, step=2)
    twin = copy.deepcopy((module, pair))
    for optimizer in pair:
        train(module, optimizer, first=2, steps=2)
    snapshot.restore(parts)
    for mine, other in zip(pair, twin[1], strict=True):
        assert_same(everything(module, mine), everything(twin[0], other))


def test_buffers_that_were_replaced_go_back() -> None:
    """One made or dropped since, grown or exchanged has the value of then."""
    module, _, parts = started()
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    module.late = torch.ones(2)
    module.hidden = torch.zeros(7)
    module.norm.running_mean = None
    mean = copy.deepcopy(snapshot.state_dict()["buffers"]["modules[0].norm.running_mean"][1])
    snapshot.restore(parts)
    assert module.late is None
    assert module.hidden.tolist() == [3.0, 3.0, 3.0]
    assert torch.equal(module.norm.running_mean, mean)


def test_a_take_that_fails_leaves_the_last_snapshot() -> None:
    """Nothing is overwritten before all is known to fit."""
    module, optimizer, parts = started()
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    before = copy.deepcopy(snapshot.state_dict())
    train(module, optimizer, first=3, steps=1)
    next(iter(optimizer.state.values()))["queue"] = deque([1])
    with pytest.raises(TypeError, match="deque"):
        snapshot.take(parts, step=4)
    assert_same(snapshot.state_dict(), before)


def test_state_under_a_key_of_its_own_goes_back() -> None:
    """Some optimizers keep counts beside the parameters."""
    _, optimizer, parts = started()
    optimizer.state["counts"] = {"calls": 3, "shared": torch.ones(1)}  # type: ignore[index]
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    del optimizer.state["counts"]  # type: ignore[arg-type]
    snapshot.restore(parts)
    assert optimizer.state["counts"] == {"calls": 3, "shared": torch.ones(1)}  # type: ignore[index]


def test_state_that_has_become_the_parameter_itself_gets_memory_of_its_own() -> None:
    """Writing into it would overwrite what the parameter has just got back."""
    module, optimizer, parts = started()
    state = optimizer.state[module.first.weight]
    state["slow"] = torch.full_like(module.first.weight, 7.0)
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    weight = module.first.weight.detach().clone()
    state["slow"] = module.first.weight.data
    snapshot.restore(parts)
    assert torch.equal(module.first.weight, weight)
    assert bool((optimizer.state[module.first.weight]["slow"] == 7.0).all())
