"""A real out-of-memory error: the runs of the study on memory, on a job that takes a second."""

from __future__ import annotations

import sys

import pytest

from benchmarks.batch.jobs import MemoryJob
from benchmarks.batch.study import compared

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA limits allocations on Linux only")

JOB = MemoryJob(task="photographs", optimizer="sgd", rate=0.01, batch_size=640, samples=640, epochs=2)
"""By gradients alone: AdamW would turn rounding into steps."""


def test_plain_lightning_fails_where_the_automation_trains_as_with_memory_enough() -> None:
    """The limit is real, the plain run dies of it, and the split run has the unlimited run's weights."""
    runs = (("plain", 2.0), ("plain", 0.6), ("ours, defaults: batch size alone", 0.6), ("ours, doing nothing", 0.6))
    fits, plain, ours, nothing = compared(JOB, seed=0, runs=runs)

    assert fits.in_budget
    assert fits.difference == 0
    for failed in (plain, nothing):
        assert failed.error is not None
        assert "can't allocate memory" in failed.error
        assert not failed.trained
    assert ours.error is None
    assert ours.once
    assert ours.trained
    assert ours.batch == 640
    assert ours.micro_batch < 640
    assert ours.changes >= 1
    assert ours.samples > ours.budget
    assert ours.difference is not None
    assert ours.difference < 1e-5
    assert ours.need_bytes > 50 << 20
    assert ours.room_used is not None
    assert 0.4 < ours.room_used <= 1.01
