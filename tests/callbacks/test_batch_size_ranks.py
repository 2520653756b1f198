"""Memory runs out on one rank of DDP: survived there alone, or the run ends with an error that names the rank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_automations.callbacks.survival import obstacle
from lightning_automations.probes.reduction import collectives_made, counts_collectives
from tests.callbacks.memory_helpers import Limited, MadeUpMemory
from tests.callbacks.ranks_out_of_memory import BATCH, MANY_BUCKETS, OnOneRank, automation, fit
from tests.callbacks.script_rank_out_of_memory import FATAL, SURVIVED

SCRIPT = Path(__file__).with_name("script_rank_out_of_memory.py")


def run_ranks(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Two processes over gloo, until both are done."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)


def numbers(run: dict[str, Any]) -> torch.Tensor:
    """The weights, one after the other."""
    return torch.cat([torch.tensor(part, dtype=torch.float64).flatten() for part in run["weights"]])


def test_one_rank_runs_its_batch_again_and_the_others_do_not_notice(tmp_path: Path) -> None:
    """Weights and logged loss are those of the undisturbed run, on both ranks, with as many collectives."""
    done = run_ranks(str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    undisturbed = ranks[0]["own collective, memory suffices"]
    of_the_automation = undisturbed["ours"]["collectives"] - undisturbed["plain"]["collectives"]
    for case in SURVIVED:
        zero, one = (rank[case] for rank in ranks)
        assert zero["ours"]["failures"] == 0, case
        assert (one["ours"]["failures"] > 0) == (len(one["adjustments"]) > 0) == ("suffices" not in case), case
        assert torch.equal(numbers(zero["ours"]), numbers(one["ours"])), case
        assert torch.allclose(numbers(one["ours"]), numbers(one["plain"]), rtol=1e-9, atol=0), case
        assert one["ours"]["loss"] == pytest.approx(one["plain"]["loss"], rel=1e-9), case
        assert one["ours"]["steps"] == one["plain"]["steps"], case
        for rank in (zero, one):
            assert rank["ours"]["collectives"] == rank["plain"]["collectives"] + of_the_automation, case


@pytest.mark.parametrize("case", FATAL)
def test_where_the_others_wait_the_run_ends_with_an_error_that_names_the_rank(case: str, tmp_path: Path) -> None:
    """Both processes end, none hangs, and the message says what helps."""
    done = run_ranks(str(tmp_path), case)
    assert done.returncode != 0
    assert "on rank 1" in done.stderr
    remedy = "bucket_cap_mb" if "bucket" in case else "couples_samples = True"
    assert remedy in done.stderr


# One rank of DDP in this process --------------------------------------------------------------------------------------


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lightning's launcher leaves its variables, and a process group, behind."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("of_module", "options", "reason"),
    [
        ({"place": "before"}, {}, "while DDP prepared the forward pass"),
        ({"place": 0, "calls": (2,)}, {"bucket": MANY_BUCKETS}, "after the first gradients were reduced"),
        ({"place": "forward", "calls": (2,), "together": True}, {}, "makes collectives of its own"),
        ({"place": 3, "calls": (0,), "together": True}, {}, "makes collectives of its own"),
        ({"place": 3, "calls": (2,), "together": True}, {}, "makes collectives of its own"),
        (
            {"place": 1, "calls": (1,), "unused": True},
            {"accumulate_grad_batches": 2},
            "find_unused_parameters and accumulation",
        ),
    ],
)
def test_the_error_says_why_the_batch_is_not_run_again(of_module: Any, options: Any, reason: str) -> None:
    """The original error, with the rank and the reason in its message."""
    with pytest.raises(torch.OutOfMemoryError, match=r"CUDA out of memory[\s\S]*on rank 0") as caught:
        fit(OnOneRank(**of_module), automation(), devices=1, **options)
    assert reason in str(caught.value)


@pytest.mark.usefixtures("_alone")
def test_a_batch_is_never_split_once_the_step_has_made_a_collective() -> None:
    """Pieces of a size that an earlier run chose are refused as soon as the step is seen to meet the other ranks."""
    one = automation()
    state = one.state_dict()
    state["brain"]["micro_batch"] = 2
    one.load_state_dict(state)
    with pytest.raises(RuntimeError, match="couples_samples = True"):
        fit(OnOneRank(steps=(), together=True), one, devices=1)


@pytest.mark.usefixtures("_alone")
def test_collectives_of_the_training_step_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """At the first step, not only when memory runs out; no size is decided on from then."""
    caplog.set_level("INFO")
    one = automation(adjustment_frequency=1)
    one._make_probe = lambda _: MadeUpMemory(lambda size: 0.99, [BATCH])
    fit(OnOneRank(steps=(), together=True), one, devices=1)
    assert sum("makes collectives of its own" in record.message for record in caplog.records) == 1
    assert one.adjustments == []
    assert one.brain.state.samples == ()


@pytest.mark.usefixtures("_alone")
def test_nothing_is_left_at_the_module_after_the_fit() -> None:
    """The hook that sees the training step begin is taken away."""
    module = OnOneRank(1, calls=(1, 4))
    fit(module, automation(), devices=1)
    assert module.failures == 2
    assert not module._forward_pre_hooks


# Where it stays out ---------------------------------------------------------------------------------------------------


@pytest.fixture
def group(_alone: None, tmp_path: Path) -> None:
    """A process group of this process alone."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)


def under(strategy: str, model: Any) -> Any:
    """A trainer, as far as it matters, whose strategy wraps the module in ``model``."""
    return SimpleNamespace(strategy=type(strategy, (), {"model": model})())


@pytest.mark.parametrize(
    ("strategy", "why"),
    [("FSDPStrategy", "FSDPStrategy"), ("DeepSpeedStrategy", "DeepSpeed"), ("SingleDeviceStrategy", None)],
)
def test_a_single_device_and_ddp_are_served(strategy: str, why: str | None) -> None:
    """Sharding strategies gather parameters in forward and backward passes: one rank cannot repeat them alone."""
    told = obstacle(under(strategy, nn.Linear(1, 1)), Limited())
    assert told is None if why is None else why in str(told)


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"static_graph": True}, "static_graph"),
        ({"mixed_precision": object()}, "mixed_precision"),
        ({"buffer_hook": object()}, "communication hook for buffers"),
        ({"_use_python_reducer": True}, "usual way"),
    ],
)
def test_forms_of_ddp_whose_passes_cannot_be_repeated_are_left_alone(change: dict[str, Any], why: str | None) -> None:
    """With a word on what it is."""
    module = Limited()
    wrapper = DistributedDataParallel(module)
    vars(wrapper).update(change)
    told = obstacle(under("DDPStrategy", wrapper), module)
    assert told is None if why is None else why in str(told)


@pytest.mark.usefixtures("group")
def test_synchronised_batch_normalization_stays_out() -> None:
    """Its every forward pass is a collective."""
    module = Limited()
    wrapper = DistributedDataParallel(module)
    module.layers = nn.SyncBatchNorm(4)  # on a CPU DDP does not take a module that has it
    assert "SyncBatchNorm" in str(obstacle(under("DDPStrategy", wrapper), module))


@pytest.mark.usefixtures("group")
def test_collectives_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more for each, whoever makes it; a backend that does not count is said to be an obstacle."""
    before = collectives_made()
    torch.distributed.all_reduce(torch.ones(1))
    torch.distributed.broadcast(torch.ones(1), 0)
    assert collectives_made() == before + 2
    assert counts_collectives()

    def uncounted() -> int:
        raise RuntimeError("not supported")

    monkeypatch.setattr("lightning_automations.probes.reduction.collectives_made", uncounted)
    module = Limited()
    assert "does not count" in str(obstacle(under("DDPStrategy", DistributedDataParallel(module)), module))
