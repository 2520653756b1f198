"""Records the curves of the study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.stopping.curve import Curve
from benchmarks.stopping.jobs import JOBS, job_named
from benchmarks.stopping.recording import record
from benchmarks.tasks import task_named
from benchmarks.workers import each

__all__ = ["measure"]

Row = Mapping[str, Any]


def measure(
    *,
    seeds: Sequence[int],
    tasks: Sequence[str] | None = None,
    workers: int = 1,
    done: Iterable[Row] = (),
    save: Callable[[Row], None] | None = None,
) -> dict[str, Any]:
    """Record every job once for each seed, unless that was done before.

    Args:
        seeds: Of network, order of the samples, dropout and noise.
        tasks: Names of tasks; None: all.
        workers: Processes, 1 or more.
        done: Rows that were recorded before.
        save: Called with each new row as it comes in.

    Returns:
        ``curves``: one row for each job and seed, seed after seed; JSON-able.
    """
    rows = {Curve.from_json(row).key: row for row in done}
    wanted = [(job.name, seed) for seed in seeds for job in JOBS if tasks is None or job.task in tasks]
    missing = [key for key in wanted if key not in rows]
    for row in each(_recorded, missing, workers=workers) if missing else ():
        rows[Curve.from_json(row).key] = row
        if save is not None:
            save(row)
    return {"curves": [rows[key] for key in wanted]}


def _recorded(key: tuple[str, int]) -> Row:
    name, seed = key
    job = job_named(name)
    return record(job, task_named(job.task), seed=seed).as_json()
