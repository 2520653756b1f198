"""Batches that do not fit memory: how runs are judged, what is made, and the section of the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import batch
from benchmarks.batch import study
from benchmarks.batch.jobs import FITS, JOBS, MemoryJob
from benchmarks.batch.methods import METHODS
from benchmarks.batch.rows import BatchOutcome
from benchmarks.batch.training import Ledger

GOOD = BatchOutcome(
    job="job",
    method="ours, defaults",
    share=0.3,
    seed=0,
    margin=0.1,
    score_name="accuracy",
    held_out=False,
    reference_score=0.8,
    start_score=0.1,
    need_bytes=300 * 2**20,
    plain_seconds=4.0,
    budget=1000,
    finite=True,
    once=True,
    epochs=2,
    score=0.75,
    score_in_budget=0.72,
    difference=1e-7,
    steps=8,
    samples=1200,
    batch=100,
    micro_batch=25,
    changes=2,
    seconds=1.1,
    room_used=0.9,
)
JOB = MemoryJob(task="characters", optimizer="adamw", rate=0.03, batch_size=30, samples=5, epochs=2)


@pytest.mark.parametrize(
    ("change", "trained", "in_budget"),
    [
        ({}, True, True),
        ({"score": 0.701}, True, True),
        ({"score": 0.699}, False, False),
        ({"score_in_budget": 0.699}, True, False),
        ({"score": math.nan}, False, False),
        ({"score": None, "score_in_budget": None, "error": "RuntimeError: out of memory"}, False, False),
        ({"error": "the process ended with SIGKILL"}, False, False),
        ({"finite": False}, False, False),
        ({"once": False}, False, False),
    ],
)
def test_a_run_succeeds_only_with_every_sample_once_and_a_score_within_the_margin(
    change: Mapping[str, Any], trained: bool, in_budget: bool
) -> None:
    """Whatever raises, dies, ends non-finite, loses samples or scores too low has failed."""
    outcome = replace(GOOD, **change)
    assert (outcome.trained, outcome.in_budget) == (trained, in_budget)


def test_an_outcome_survives_the_way_to_a_file_and_back() -> None:
    """Rows are JSON; what is not finite becomes null and stays a failure."""
    assert BatchOutcome.from_json(json.loads(json.dumps(GOOD.as_json()))) == GOOD
    broken = json.loads(json.dumps(replace(GOOD, score=math.nan, difference=math.inf).as_json(), allow_nan=False))
    assert broken["score"] is None
    assert not BatchOutcome.from_json(broken).trained


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([[0, 1, 2, 3, 4], [4, 2, 0, 1, 3]], True),
        ([[0, 1, 2, 3, 4]], True),
        ([[0, 1, 2, 3, 4], [4, 2, 0, 1]], False),
        ([[0, 1, 2, 3, 4], [4, 2, 0, 1, 3, 3]], False),
        ([], False),
    ],
)
def test_each_epoch_has_to_have_every_sample_once(epochs: Sequence[Sequence[int]], expected: bool) -> None:
    """A sample that is left out or comes twice shows; a run that a stopping rule ended after an epoch may pass."""
    ledger = Ledger(budget=10)
    for epoch in epochs:
        ledger.begin_epoch()
        ledger.trained(epoch)
    assert ledger.each_once(JOB) is expected


def test_weights_are_kept_when_the_first_sample_beyond_the_budget_enters() -> None:
    """Failed steps count in full, and restarts do not give samples back."""
    ledger, network = Ledger(budget=10), nn.Linear(1, 1, bias=False)
    for step, samples in enumerate((4, 4, 2, 1, 4)):
        nn.init.constant_(network.weight, step)
        ledger.enters(network, samples)
        ledger.restart()
        assert (ledger.weights_in_budget is not None) is (step >= 3)
    assert ledger.weights_in_budget is not None
    assert torch.equal(ledger.weights_in_budget["weight"], torch.tensor([[3.0]]))
    assert ledger.samples == 15


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str, float]]:
    """Job, seed, method and share of the runs that a measurement asks for; all come back as good ones."""
    asked: list[tuple[str, int, str, float]] = []

    def compared(job: MemoryJob, *, seed: int, runs: Sequence[tuple[str, float]]) -> Iterator[BatchOutcome]:
        for method, room in runs:
            asked.append((job.name, seed, method, room))
            yield replace(GOOD, job=job.name, seed=seed, method=method, share=room)

    monkeypatch.setattr(study, "compared", compared)
    monkeypatch.setattr(study.sys, "platform", "linux")
    return asked


def test_a_measurement_goes_on_where_it_was_cut_off(made: list[Any]) -> None:
    """Runs that were made are not made again, and all come back in the same order."""
    saved: list[Mapping[str, Any]] = []
    whole = batch.measure(seeds=(0, 1), save=saved.append)
    assert len(made) == len(saved) == len(whole["rows"]) == 2 * sum(len(job.shares) for job in JOBS) * len(METHODS)
    made.clear()
    assert batch.measure(seeds=(0, 1), workers=2, done=saved[3:]) == whole
    assert len(made) == 3


def test_quick_is_one_job_with_less_memory_than_it_needs(made: list[Any]) -> None:
    """A first look, without the clean scenario."""
    batch.measure(seeds=(0,), quick=True)
    assert {job for job, *_ in made} == {JOBS[0].name}
    assert {room for *_, room in made} == {study.QUICK_SHARE}
    assert study.QUICK_SHARE < 1 < FITS


def test_elsewhere_than_on_linux_the_section_says_that_nothing_was_measured(
    made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run is made, none counts, and no table pretends."""
    monkeypatch.setattr(study.sys, "platform", "darwin")
    measured = batch.measure(seeds=(0,))
    assert made == []
    assert batch.successes(measured) == []
    assert batch.section(measured).startswith("Not measured")


def test_the_section_counts_both_kinds_of_success_and_tells_errors() -> None:
    """Known rows give known figures; the held-out job is not pooled with the others."""
    failed = replace(GOOD, seed=1, error="in the data loader: RuntimeError: [enforce fail at alloc_cpu.cpp:127] no")
    late = replace(GOOD, seed=2, score_in_budget=0.1, difference=1e-3)
    held_out = replace(GOOD, job="another", held_out=True)
    measured = {"measured": True, "rows": [outcome.as_json() for outcome in (GOOD, failed, late, held_out)]}
    section = batch.section(measured)
    assert "| **ours, defaults** | 2/3, 1/3 |" in section
    row = "| **ours, defaults** | 0.3 | 2/3 | 2/3 | 1/3 | -0.050 | 1.0e-03 | 8 | 100 | 25 | 2 | 1.20 | 1.10 | 0.90 |"
    assert row in section
    assert "- in the data loader: the allocator's error: ours, defaults at 0.3." in section
    assert "#### another\n\nHeld out." in section
    counted = [(run.method, run.success) for run in batch.successes(measured)]
    assert counted == [("ours, defaults", flag) for flag in (True, False, False, True)]
