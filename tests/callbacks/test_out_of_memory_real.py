"""A real out-of-memory error of the allocator, in a process of its own with a limit of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.callbacks.helpers import journal_entries, run_script

SCRIPT = Path(__file__).with_name("script_out_of_memory.py")
ON_RANKS = Path(__file__).with_name("script_rank_out_of_memory_real.py")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA limits allocations on Linux only")


def environment() -> dict[str, str]:
    """Of a process where what is freed is free: one arena, and tensors outside of it."""
    glibc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1000000"}
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2]), **glibc}


def started(mode: str, folder: Path) -> subprocess.Popen[str]:
    """One run in a process of its own."""
    command = [sys.executable, str(SCRIPT), mode, str(folder)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_that_memory_does_not_hold_ends_like_one_with_enough_memory(tmp_path: Path) -> None:
    """Plain Lightning dies; with the automation weights and logged means are those of an unlimited run."""
    runs = {mode: started(mode, tmp_path) for mode in ("plain", "automated", "unlimited")}
    printed = {mode: run.communicate(timeout=150) for mode, run in runs.items()}

    assert runs["plain"].returncode != 0
    assert "can't allocate memory" in printed["plain"][1]
    assert runs["automated"].returncode == 0, printed["automated"][1]
    automated: dict[str, Any] = json.loads(printed["automated"][0])
    unlimited: dict[str, Any] = json.loads(printed["unlimited"][0])
    assert automated["steps"] == unlimited["steps"] == 4
    # An image is known by its sum.
    assert automated["samples"] == unlimited["samples"]
    assert [len(set(epoch)) for epoch in automated["samples"]] == [96, 96]
    # In double precision, so that what is left is no matter of rounding.
    assert automated["weights"] == pytest.approx(unlimited["weights"], rel=1e-10)
    assert automated["losses"] == pytest.approx(unlimited["losses"], rel=1e-10)

    entries = journal_entries(tmp_path / "automated" / "automations.jsonl")
    story = [(entry["old"], entry["new"], entry["reason"]) for entry in entries if entry["event"] == "adjustment"]
    assert story[0] == (64, 32, "out_of_memory")
    assert all(new == old / 2 >= 8 and reason == "out_of_memory" for old, new, reason in story)


def test_a_rank_that_memory_does_not_hold_trains_on_with_the_other(tmp_path: Path) -> None:
    """Two ranks of DDP, of which one has a limit: weights, losses and steps are those of the run without it."""
    run_script(ON_RANKS, str(tmp_path), environment=environment(), timeout=200)
    zero, one = (json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert zero["limited"]["adjustments"] == []
    story = one["limited"]["adjustments"]
    assert story[0] == [48, 24, "out_of_memory"]
    assert all(reason == "out_of_memory" for _, _, reason in story)
    for rank in (zero, one):
        assert rank["limited"]["weights"] == pytest.approx(rank["unlimited"]["weights"], rel=1e-10)
        assert rank["limited"]["losses"] == pytest.approx(rank["unlimited"]["losses"], rel=1e-10)
        assert rank["limited"]["steps"] == rank["unlimited"]["steps"] == 2
    assert zero["limited"]["weights"] == one["limited"]["weights"]
