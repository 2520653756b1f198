"""Where the best step of each job lies on seeds that the study does not use: ``python -m benchmarks.stopping.pilot``.

The budgets in ``jobs.py`` were set with this, before any rule was replayed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import median

from benchmarks.report.text import percent, table
from benchmarks.stopping.checks import check
from benchmarks.stopping.curve import Curve
from benchmarks.stopping.jobs import JOBS, Regime, StoppingJob
from benchmarks.stopping.recording import record
from benchmarks.tasks import task_named
from benchmarks.workers import quiet_worker

__all__ = ["FIRST_SEED", "main"]

FIRST_SEED = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Record the jobs and print a table, without the held-out task: its budgets were set without a look at it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stopping.pilot", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help=f"so many seeds from {FIRST_SEED} on (default: 5)")
    parser.add_argument("--tasks", nargs="+", help="names of tasks (default: all)")
    options = parser.parse_args(arguments)
    quiet_worker()
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    by_job = {
        job: [record(job, task_named(job.task), seed=seed) for seed in seeds]
        for job in JOBS
        if not task_named(job.task).held_out and (options.tasks is None or job.task in options.tasks)
    }
    print(table(("job", "median best step, % of the budget", "of each run"), [_row(*item) for item in by_job.items()]))
    for regime in Regime:
        curves = [curve for job, of_job in by_job.items() if job.regime is regime for curve in of_job]
        if not curves:
            continue
        found = check(regime, curves)
        print(f"{regime.value}: {percent(found.best_share)} %; {found.asked}: {'met' if found.holds else 'not met'}")
    return 0


def _row(job: StoppingJob, curves: Sequence[Curve]) -> tuple[str, str, str]:
    shares = [curve.best_share for curve in curves]
    return job.name, percent(median(shares)), ", ".join(percent(share) for share in shares)


if __name__ == "__main__":
    raise SystemExit(main())
