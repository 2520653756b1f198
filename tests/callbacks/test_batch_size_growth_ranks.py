"""Several ranks decide on sizes together: the growth matrix, and what each rank learns of the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.callbacks.helpers import run_script
from tests.callbacks.script_rank_growth import CASES, SAMPLES, loaders_of
from tests.callbacks.test_batch_size_growth import CHANGES, REPLACES, SHRINKS

SCRIPT = Path(__file__).with_name("script_rank_growth.py")


def run_ranks(folder: Path, *cases: str) -> list[dict[str, Any]]:
    """The stories of rank 0 and rank 1, from one start of two processes: starting them is what takes the time."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    del environment["LIGHTNING_AUTOMATIONS_ON_ERROR"]  # one case fails on purpose
    run_script(SCRIPT, str(folder), *cases, environment=environment, timeout=400)
    return [json.loads((folder / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


def seen_together(zero: dict[str, Any], one: dict[str, Any]) -> list[list[int]]:
    """The samples of each epoch, over both ranks."""
    return [sorted(mine + other) for mine, other in zip(zero["epochs"], one["epochs"], strict=True)]


def test_every_sample_is_seen_once_per_epoch_over_the_ranks(tmp_path: Path) -> None:
    """The matrix of one process, on two: each with its half of the samples and the same counts, whatever the loader."""
    stories = run_ranks(tmp_path, *CHANGES)
    for change in CHANGES:
        for cells in zip(*(rank[change] for rank in stories), loaders_of(change), strict=True):
            zero, one, options = cells
            cell = change, options
            assert seen_together(zero, one) == [list(range(SAMPLES))] * 3, cell
            assert zero["weights"] == one["weights"], cell
            for rank in (zero, one):
                assert rank["validations"] == [[epoch, SAMPLES // 2] for epoch in range(3)], cell
                assert rank["ended"] == rank["of schedule"] == 3, cell
            _counts_are_those_of_one_process(change, options, zero, one)


def _counts_are_those_of_one_process(
    change: str, options: dict[str, Any], zero: dict[str, Any], one: dict[str, Any]
) -> None:
    row = CHANGES[change]
    counts = row.counts_with(options)
    for rank in (zero, one):
        assert (rank["totals"], rank["finals"], rank["of optimizer"]) == (counts.totals, counts.finals, counts.steps)
        runs_whole = change == SHRINKS and rank is zero  # memory runs out on rank 1 alone
        assert rank["sizes"] == ([8] * 18 if runs_whole else counts.sizes)
        adjustments = [tuple(item[:5]) for item in rank["adjustments"]]
        assert adjustments == ([] if runs_whole else row.adjustments)
        growth = 1.0 if change in (SHRINKS, REPLACES) else 2**0.5
        assert rank["rate"] == pytest.approx(0.01 * 0.9**3 * growth)


def test_ranks_decide_together(tmp_path: Path) -> None:
    """The fuller memory, an error on another rank, a loader that differs, a failure and a checkpoint count for all."""
    zero, one = run_ranks(tmp_path, *CASES)
    _the_fuller_memory_decides(zero["one_memory_is_fuller"], one["one_memory_is_fuller"])
    _an_error_is_learned_of_at_the_next_decision(zero["learns_of_the_other"], one["learns_of_the_other"])
    _loaders_that_differ_are_left_alone(zero["loaders_differ"], one["loaders_differ"])
    told = (tmp_path / "told.txt").read_text(encoding="utf-8")
    assert told.count("the loaders of the ranks differ") == 1
    _a_rank_that_failed_retires_all(zero["one_rank_fails"], one["one_rank_fails"])
    _a_resumed_run_goes_on_with_the_size(zero["resumes"], one["resumes"])


def _the_fuller_memory_decides(zero: dict[str, Any], one: dict[str, Any]) -> None:
    # Rank 1 alone is above the target, rank 0 alone would grow: both run the same pieces from the same step on.
    assert zero["adjustments"] == one["adjustments"] == [["micro_batch_size", 8, 6, 1, 0, "memory_above_target"]]
    assert zero["sizes"] == one["sizes"] == [8] + [4, 4] * 17
    assert zero["brain"] == one["brain"]


def _an_error_is_learned_of_at_the_next_decision(zero: dict[str, Any], one: dict[str, Any]) -> None:
    # Rank 1 runs out of memory at step 3; rank 0 takes its size at step 8, and both know the same.
    assert zero["adjustments"] == [["micro_batch_size", 8, 2, 8, 1, "out_of_memory_elsewhere"]]
    assert [item[:4] for item in one["adjustments"]] == [
        ["micro_batch_size", 8, 4, 3],
        ["micro_batch_size", 4, 2, 3],
    ]
    assert zero["sizes"] == [8] * 8 + [2] * 4 * 10
    assert zero["brain"] == one["brain"]
    assert zero["weights"] == one["weights"]


def _loaders_that_differ_are_left_alone(zero: dict[str, Any], one: dict[str, Any]) -> None:
    # Grown, one rank would end its epoch a batch before the other and hang.
    assert zero["adjustments"] == one["adjustments"] == []
    assert (set(zero["sizes"]), set(one["sizes"])) == ({8}, {8, 4})


def _a_rank_that_failed_retires_all(zero: dict[str, Any], one: dict[str, Any]) -> None:
    # At the next decision, which is the one about growth: no rank grows alone.
    assert zero["retired"]
    assert one["retired"]
    assert set(zero["sizes"]) == set(one["sizes"]) == {8}


def _a_resumed_run_goes_on_with_the_size(zero: dict[str, Any], one: dict[str, Any]) -> None:
    for rank in (zero, one):
        whole, resumed = rank["uninterrupted"], rank["resumed"]
        assert resumed["sizes"] == whole["sizes"][-3:] == [16] * 3
        for name in ("weights", "rate", "adjustments", "brain"):
            assert resumed[name] == whole[name]
    assert seen_together(zero["resumed"], one["resumed"]) == [list(range(SAMPLES))]
    assert zero["resumed"]["weights"] == one["resumed"]["weights"]
