"""Several ranks decide on sizes together: the growth matrix, and what each rank learns of the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.callbacks.helpers import run_script
from tests.callbacks.script_rank_growth import CHANGES, SAMPLES
from tests.callbacks.test_batch_size_growth import LOADERS

SCRIPT = Path(__file__).with_name("script_rank_growth.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both ranks have written down their stories."""
    folder = tmp_path_factory.mktemp("growth")
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    del environment["LIGHTNING_AUTOMATIONS_ON_ERROR"]  # one case fails on purpose
    run_script(SCRIPT, str(folder), environment=environment, timeout=300)
    return folder


@pytest.fixture(scope="module")
def stories(folder: Path) -> list[dict[str, Any]]:
    """The stories of rank 0 and rank 1."""
    return [json.loads((folder / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


def seen_together(zero: dict[str, Any], one: dict[str, Any]) -> list[list[int]]:
    """The samples of each epoch, over both ranks."""
    return [sorted(mine + other) for mine, other in zip(zero["epochs"], one["epochs"], strict=True)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("cell", range(len(LOADERS)), ids=lambda cell: "-".join(map(str, LOADERS[cell].values())))
def test_every_sample_is_seen_once_per_epoch_over_the_ranks(stories: Any, cell: int, change: str) -> None:
    """The matrix of one process, on two: each with its half of the samples and the same counts."""
    zero, one = (rank["matrix"][change][cell] for rank in stories)
    assert seen_together(zero, one) == [list(range(SAMPLES))] * 3
    assert zero["weights"] == one["weights"]
    for rank in (zero, one):
        assert rank["validations"] == [[epoch, SAMPLES // 2] for epoch in range(3)]
        assert rank["ended"] == rank["of schedule"] == 3
    if change.startswith("shrinks"):
        assert (zero["sizes"], one["sizes"]) == ([8] * 18, [8] * 3 + [2] * 4 * 15)
        assert all((rank["totals"], rank["of optimizer"]) == ([6, 6, 6], 18) for rank in (zero, one))
        assert zero["adjustments"] == []
        assert [item[:5] for item in one["adjustments"]] == [
            ["micro_batch_size", 8, 4, 3, 0],
            ["micro_batch_size", 4, 2, 3, 0],
        ]
    else:
        assert zero["sizes"] == one["sizes"] == [8] * 6 + [16] * 6
        assert all((rank["totals"], rank["of optimizer"]) == ([6, 3, 3], 12) for rank in (zero, one))
        assert [item[:5] for item in zero["adjustments"]] == [["batch_size", 8, 16, 6, 1]]
        assert zero["adjustments"] == one["adjustments"]
        assert zero["rate"] == one["rate"] == pytest.approx(0.01 * 0.9**3 * 2**0.5)


def test_the_fuller_memory_decides_for_all(stories: Any) -> None:
    """Rank 1 alone is above the target, rank 0 alone would grow: both run the same pieces from the same step on."""
    zero, one = (rank["one_memory_is_fuller"] for rank in stories)
    assert zero["adjustments"] == one["adjustments"] == [["micro_batch_size", 8, 6, 1, 0, "memory_above_target"]]
    assert zero["sizes"] == one["sizes"] == [8] + [4, 4] * 17
    assert zero["brain"] == one["brain"]


def test_ranks_learn_at_the_next_decision_what_did_not_fit_elsewhere(stories: Any) -> None:
    """Rank 1 runs out of memory at step 3; rank 0 takes its size at step 8, and both know the same."""
    zero, one = (rank["learns_of_the_other"] for rank in stories)
    assert zero["adjustments"] == [["micro_batch_size", 8, 2, 8, 1, "out_of_memory_elsewhere"]]
    assert [item[:4] for item in one["adjustments"]] == [
        ["micro_batch_size", 8, 4, 3],
        ["micro_batch_size", 4, 2, 3],
    ]
    assert zero["sizes"] == [8] * 8 + [2] * 4 * 10
    assert zero["brain"] == one["brain"]
    assert zero["weights"] == one["weights"]


def test_loaders_that_differ_are_left_as_they_are(stories: Any, folder: Path) -> None:
    """Grown, one rank would end its epoch a batch before the other and hang; it is said once."""
    zero, one = (rank["loaders_differ"] for rank in stories)
    assert zero["adjustments"] == one["adjustments"] == []
    assert (set(zero["sizes"]), set(one["sizes"])) == ({8}, {8, 4})
    told = (folder / "told.txt").read_text(encoding="utf-8")
    assert told.count("the loaders of the ranks differ") == 1


def test_a_rank_that_failed_retires_all_at_the_next_decision(stories: Any) -> None:
    """Also where that decision is the one about growth: no rank grows alone."""
    zero, one = (rank["one_rank_fails"] for rank in stories)
    assert zero["retired"]
    assert one["retired"]
    assert set(zero["sizes"]) == set(one["sizes"]) == {8}
