"""Finds the learning rate that a careful user would have found, on clean runs: ``python -m benchmarks.tuning``.

For each task, optimizer and schedule the rate with the best mean validation score of three seeds is taken from a grid,
at a tie the one in the middle. The seeds are used nowhere else. What the clean runs then reach on the
test data is the reference of the scoreboard. The loop is plain torch. A run of the scoreboard with the same seed starts
from the same weights and sees the same first epoch; from the second on Lightning draws another order.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import TensorDataset

from benchmarks.methods.method import RunSetup, users_optimizer
from benchmarks.store import finite_or_none, provenance, read_json, write_json
from benchmarks.tasks import TASKS, Task, task_named
from benchmarks.tasks.judging import judged
from benchmarks.workers import each, quiet_worker

__all__ = ["GRIDS", "SCHEDULES", "SEEDS", "TUNED_FILE", "Result", "Trial", "Tuned", "measure", "tuned"]

TUNED_FILE = Path(__file__).parent / "results" / "tuned.json"
SEEDS = (100, 101, 102)
SCHEDULES = ("constant", "cosine")
GRIDS: Mapping[str, tuple[float, ...]] = {
    "adamw": (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1),
    "sgd": (2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 2e-1, 5e-1, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What is known of a task under an optimizer when nothing goes wrong.

    Args:
        rate: The best constant learning rate.
        cosine_rate: The best rate from which to anneal to zero.
        reference: Mean score on the test data of the better of the two.
        reference_loss: Mean loss on the test data of the same runs.
    """

    rate: float
    cosine_rate: float
    reference: float
    reference_loss: float


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One clean run, by names and numbers."""

    task: str
    optimizer: str
    schedule: str
    rate: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a trial came to. A score that is not finite is the worst there is, and a loss the highest."""

    trial: Trial
    validation_score: float
    test_score: float
    test_loss: float


@cache
def tuned(task: str, optimizer: str) -> Tuned:
    """What the committed tuning found.

    Raises:
        ValueError: If it has nothing about the task under this optimizer.
    """
    for row in read_json(TUNED_FILE)["tuned"]:
        if (row["task"], row["optimizer"]) == (task, optimizer):
            return Tuned(
                rate=row["constant"]["rate"],
                cosine_rate=row["cosine"]["rate"],
                reference=row["reference"],
                reference_loss=row["reference_loss"],
            )
    raise ValueError(f"{TUNED_FILE.name} has no entry for {task} under {optimizer}: run python -m benchmarks.tuning")


def _train(trial: Trial) -> nn.Module:
    """The trained network of a clean run."""
    task = task_named(trial.task)
    torch.manual_seed(trial.seed)
    network = task.network()
    setup = RunSetup(
        task=task,
        optimizer=trial.optimizer,
        rate=trial.rate,
        cosine_rate=trial.rate,
        steps=task.steps,
        validation_interval=task.steps,
    )
    optimizer = users_optimizer(network.parameters(), setup)
    schedule = CosineAnnealingLR(optimizer, T_max=task.steps) if trial.schedule == "cosine" else None
    loader = task.training_loader(seed=trial.seed)
    step = 0
    while step < task.steps:
        for inputs, targets in loader:
            optimizer.zero_grad()
            task.loss(network(inputs), targets).backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            step += 1
            if step == task.steps:
                break
    return network


def measure(trial: Trial) -> Result:
    """Train, and judge on validation and test data."""
    network, task = _train(trial), task_named(trial.task)
    validation, _ = _judged(task, network, task.splits().validation)
    score, loss = _judged(task, network, task.splits().test)
    return Result(
        trial=trial,
        validation_score=validation,
        test_score=score,
        test_loss=loss,
    )


def _judged(task: Task, network: nn.Module, data: TensorDataset) -> tuple[float, float]:
    score, loss = judged(task, network, data)
    return (score, loss) if math.isfinite(score) and math.isfinite(loss) else (-math.inf, math.inf)


def _trials(task: Task) -> list[Trial]:
    return [
        Trial(task=task.name, optimizer=optimizer, schedule=schedule, rate=rate, seed=seed)
        for optimizer in task.optimizers
        for schedule in SCHEDULES
        for rate in GRIDS[optimizer]
        for seed in SEEDS
    ]


def _rows(results: Iterable[Result]) -> list[dict[str, Any]]:
    """For the file, one row a task and optimizer."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda result: (result.trial.rate, result.trial.seed)):
        groups[result.trial.task, result.trial.optimizer].append(result)
    return [_row(*names, group) for names, group in groups.items()]


def _row(task: str, optimizer: str, results: Sequence[Result]) -> dict[str, Any]:
    chosen = {name: _chosen([result for result in results if result.trial.schedule == name]) for name in SCHEDULES}
    better = max(chosen.values(), key=lambda choice: choice["test_score"])
    reference = {"reference": better["test_score"], "reference_loss": better["test_loss"]}
    return {"task": task, "optimizer": optimizer, **chosen, **reference}


def _chosen(results: Sequence[Result]) -> dict[str, Any]:
    """The best rate of one schedule, with what its runs came to."""
    by_rate: dict[float, list[Result]] = defaultdict(list)
    for result in results:
        by_rate[result.trial.rate].append(result)
    validation = {rate: fmean(result.validation_score for result in group) for rate, group in by_rate.items()}
    best = [rate for rate, score in validation.items() if score == max(validation.values())]
    rate = best[(len(best) - 1) // 2]
    return {
        "rate": rate,
        "test_score": round(fmean(result.test_score for result in by_rate[rate]), 5),
        "test_loss": round(fmean(result.test_loss for result in by_rate[rate]), 6),
        "test_scores": [round(result.test_score, 5) for result in by_rate[rate]],
        "validation_scores": {f"{rate:g}": finite_or_none(round(score, 4)) for rate, score in validation.items()},
    }


def _pair(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["task"], row["optimizer"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune the tasks that are named, or all, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description="Tune the learning rates.")
    parser.add_argument("tasks", nargs="*", help="only these; what the file says of the others stays")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    quiet_worker()
    tasks = [task_named(name) for name in options.tasks] or list(TASKS)
    known = {} if not options.tasks else {_pair(row): row for row in read_json(TUNED_FILE)["tuned"]}
    rows = _rows(each(measure, [trial for task in tasks for trial in _trials(task)], workers=options.workers))
    known |= {_pair(row): row for row in rows}
    kept = [known[task.name, name] for task in TASKS for name in task.optimizers if (task.name, name) in known]
    write_json(TUNED_FILE, {**provenance(), "seeds": SEEDS, "grids": dict(GRIDS)}, kept, name="tuned")
    for row in rows:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
