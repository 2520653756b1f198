"""The study "batches that do not fit memory": every method, on every job, with less and less memory."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.batch.jobs import JOBS, QUICK_SHARE, MemoryJob
from benchmarks.batch.launcher import Launcher
from benchmarks.batch.methods import METHODS, PLAIN
from benchmarks.batch.rows import BatchOutcome

__all__ = ["QUICK_METHODS", "compared", "measure"]

QUICK_METHODS = (PLAIN.name, "BatchSizeFinder", "ours, defaults")

_OWN = (
    "error", "finite", "once", "epochs", "score", "score_in_budget", "difference",
    "steps", "samples", "batch", "micro_batch", "changes",
)  # fmt: skip
"""What an outcome takes from the run as it is."""

Save = Callable[[Mapping[str, Any]], None]
Keep = Callable[[BatchOutcome], None]
Key = tuple[str, str, float, int]


def measure(
    *,
    seeds: Sequence[int],
    quick: bool = False,
    workers: int = 1,
    done: Iterable[Mapping[str, Any]] | None = None,
    save: Save | None = None,
) -> dict[str, Any]:
    """Make all runs that have not been made.

    Args:
        seeds: Of network and order of the samples: every run once for each.
        quick: One job, one share, few methods.
        workers: Processes at the same time, 1 or more.
        done: Rows of runs that were made before.
        save: Called with each row as it comes in.

    Returns:
        ``measured``: False where this is not Linux; ``rows``: one mapping for each run, sorted.

    Raises:
        RuntimeError: If a run could not be made or judged at all. A run that fails is a row like any other.
    """
    if sys.platform != "linux":
        return {"measured": False, "rows": []}
    before = {outcome.key: outcome for outcome in map(BatchOutcome.from_json, done or ())}
    lock = Lock()

    def keep(outcome: BatchOutcome) -> None:
        with lock:
            if save is not None:
                save(outcome.as_json())

    groups = [_Group(job, seed, quick=quick) for seed in seeds for job in (JOBS[:1] if quick else JOBS)]
    with ThreadPoolExecutor(workers) as pool:
        made = pool.map(lambda group: group.run(made_before=before, keep=keep), groups)
        outcomes = before | {outcome.key: outcome for of_group in made for outcome in of_group}
    wanted = [key for group in groups for key in group.keys]
    return {"measured": True, "rows": [outcomes[key].as_json() for key in wanted]}


class _Group:
    """The runs of one job and one seed: all are compared with one plain run without a limit."""

    def __init__(self, job: MemoryJob, seed: int, *, quick: bool) -> None:
        shares = (QUICK_SHARE,) if quick else job.shares
        methods = QUICK_METHODS if quick else tuple(method.name for method in METHODS)
        self.keys: list[Key] = [(job.name, method, room, seed) for room in shares for method in methods]
        self._job = job
        self._seed = seed

    def run(self, *, made_before: Mapping[Key, BatchOutcome], keep: Keep) -> list[BatchOutcome]:
        """Make the runs that are missing."""
        missing = [
            (method, room) for job, method, room, seed in self.keys if (job, method, room, seed) not in made_before
        ]
        made = []
        for outcome in compared(self._job, seed=self._seed, runs=missing):
            made.append(outcome)
            keep(outcome)
        return made


def compared(job: MemoryJob, *, seed: int, runs: Sequence[tuple[str, float]]) -> Iterator[BatchOutcome]:
    """Make runs of one job, after a plain one without a limit with which each is compared.

    Args:
        job: The job.
        seed: Of network and order of the samples.
        runs: Method and share of the memory that the plain run needs.

    Raises:
        RuntimeError: If the run without a limit fails, or a run cannot be made or judged.
    """
    if not runs:
        return
    with tempfile.TemporaryDirectory() as folder, Launcher() as launcher:
        common = {"job": asdict(job), "seed": seed, "weights": str(Path(folder) / "weights.pt")}
        reference = launcher.run({**common, "method": PLAIN.name, "room_bytes": None})
        if reference["error"] is not None:
            raise RuntimeError(f"the plain run without a limit failed: {reference['error']}")
        about = _about(job, reference)
        for method, share in runs:
            room = int(share * reference["rise_bytes"])
            answer = launcher.run({**common, "method": method, "room_bytes": room})
            own = {name: answer[name] for name in _OWN if name in answer}
            if "seconds" in answer:
                own["seconds"] = round(answer["seconds"] / reference["seconds"], 3)
                own["room_used"] = round(answer["rise_bytes"] / room, 3)
            yield BatchOutcome(method=method, share=share, seed=seed, **about, **own)


def _about(job: MemoryJob, reference: Mapping[str, Any]) -> dict[str, Any]:
    """What all runs of a job and a seed have in common."""
    return {
        "job": job.name,
        "margin": reference["margin"],
        "score_name": reference["score_name"],
        "held_out": reference["held_out"],
        "reference_score": reference["score"],
        "start_score": reference["start_score"],
        "need_bytes": reference["rise_bytes"],
        "plain_seconds": round(reference["seconds"], 3),
        "budget": job.budget,
    }
