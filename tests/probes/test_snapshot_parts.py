"""What a snapshot covers, what it refuses, and when it no longer fits."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from lightning_automations.probes.snapshot import Snapshot, SnapshotMismatchError, SnapshotParts, refusal, size_of
from tests.probes.snapshot_runs import Net, assert_same, everything, started, train


def test_its_size_is_known_before() -> None:
    """Tied parameters count once, and what is taken is what was said."""
    _, _, parts = started("adam")
    snapshot = Snapshot()
    assert snapshot.nbytes == 0
    snapshot.take(parts, step=3)
    assert size_of(parts) == snapshot.nbytes
    module = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)])
    module[1].weight = module[0].weight
    assert size_of(SnapshotParts([module, module], [])) == 64


def test_what_is_new_since_is_left_alone() -> None:
    """A parameter that was added keeps its value and loses its optimizer state."""
    module, optimizer, parts = started()
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    module.added = nn.Linear(2, 1)
    optimizer.add_param_group({"params": list(module.added.parameters())})
    module.added(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    values = module.added.weight.detach().clone()
    assert module.added.weight in optimizer.state
    snapshot.restore(parts)
    assert torch.equal(module.added.weight, values)
    assert module.added.weight not in optimizer.state
    assert module.first.weight in optimizer.state


def lose_parameter(module: Net, optimizer: Optimizer) -> None:
    """One less."""
    module.norm = nn.Identity()  # type: ignore[assignment]


def reshape_parameter(module: Net, optimizer: Optimizer) -> None:
    """Another shape."""
    module.frozen = nn.Linear(4, 2)


def retype_parameter(module: Net, optimizer: Optimizer) -> None:
    """Another type."""
    module.frozen.to(torch.float64)


def lose_buffer(module: Net, optimizer: Optimizer) -> None:
    """One less."""
    del module.hidden


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lose_parameter, "modules[0].norm.weight"),
        (reshape_parameter, "modules[0].frozen.weight"),
        (retype_parameter, "modules[0].frozen.weight"),
        (lose_buffer, "modules[0].hidden"),
    ],
)
def test_a_mismatch_is_named_and_changes_nothing(change: Callable[[Net, Optimizer], None], named: str) -> None:
    """A run that lost something cannot go back, and is not left halfway."""
    module, optimizer, parts = started()
    snapshot = Snapshot()
    snapshot.take(parts, step=3)
    train(module, optimizer, first=3, steps=1)
    change(module, optimizer)
    before = copy.deepcopy(everything(module, optimizer))
    with pytest.raises(SnapshotMismatchError) as error:
        snapshot.restore(parts)
    assert named in str(error.value)
    assert_same(everything(module, optimizer), before)


def test_another_number_of_optimizers_or_none_taken_is_a_mismatch() -> None:
    """There is no telling whose state would go where."""
    _, optimizer, parts = started()
    snapshot = Snapshot()
    with pytest.raises(SnapshotMismatchError, match="none was taken"):
        snapshot.restore(parts)
    snapshot.take(parts, step=3)
    with pytest.raises(SnapshotMismatchError, match="1 optimizers at step 3 and are 2"):
        snapshot.restore(SnapshotParts(parts.modules, [optimizer, optimizer]))


def test_a_module_without_parameters_has_a_snapshot() -> None:
    """Nothing to copy is no error, and buffers alone are copied."""
    snapshot = Snapshot()
    snapshot.take(SnapshotParts([nn.Identity()], []), step=1)
    snapshot.restore(SnapshotParts([nn.Identity()], []))
    assert (snapshot.step, snapshot.nbytes) == (1, 0)


@pytest.mark.parametrize("begun", [False, True])
def test_the_scaler_goes_back(begun: bool) -> None:
    """Scale and growth tracker, also to before the first use."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    if begun:
        scaler.scale(torch.ones(()))
    parts, snapshot = SnapshotParts([], [], [scaler]), Snapshot()
    snapshot.take(parts, step=0)
    then = scaler.state_dict()
    scaler.scale(torch.ones(()))
    scaler.load_state_dict({**then, "scale": 8.0, "_growth_tracker": 5})
    snapshot.restore(parts)
    now = scaler.state_dict()
    assert (now["scale"], now["_growth_tracker"]) == (64.0, 0)


def test_a_scaler_that_has_not_begun_starts_from_the_scale_of_then() -> None:
    """A resumed run restores before its first backward pass."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scaler.scale(torch.ones(()))
    snapshot = Snapshot()
    snapshot.take(SnapshotParts([], [], [scaler]), step=0)
    fresh = torch.amp.GradScaler("cpu")
    snapshot.restore(SnapshotParts([], [], [fresh]))
    assert float(fresh.scale(torch.ones(()))) == 64.0


def test_a_disabled_scaler_has_nothing_to_restore() -> None:
    """It is left alone."""
    parts = SnapshotParts([], [], [torch.amp.GradScaler("cpu", enabled=False)])
    snapshot = Snapshot()
    snapshot.take(parts, step=0)
    snapshot.restore(parts)
    assert snapshot.nbytes == 0


def test_parts_that_cannot_be_copied_are_refused() -> None:
    """Meta, sparse and lazy tensors, and optimizers that keep objects; an ordinary run is not."""
    _, optimizer, parts = started("lbfgs")
    assert refusal(parts) is None
    with torch.device("meta"):
        meta = nn.Linear(2, 2)
    assert refusal(SnapshotParts([meta], [])) == "modules[0].weight has no values yet (meta device)."
    sparse = nn.Module()
    sparse.register_buffer("mask", torch.eye(2).to_sparse())
    assert refusal(SnapshotParts([sparse], [])) == "modules[0].mask is sparse."
    assert refusal(SnapshotParts([nn.LazyLinear(2)], [])) == "modules[0].weight has no shape yet."
    next(iter(optimizer.state.values()))["queue"] = deque([1])
    assert refusal(parts) == "The state of LBFGS holds a deque."
