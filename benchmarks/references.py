"""What the runs of each task and optimizer are held against."""

from __future__ import annotations

from benchmarks.scoring import Reference, References
from benchmarks.tasks import TASKS
from benchmarks.tuning import tuned

__all__ = ["references"]


def references() -> References:
    """The best tuned clean run of each task and optimizer, from ``results/tuned.json``."""
    return {
        (task.name, optimizer): Reference(
            score=tuned(task.name, optimizer).reference,
            margin=task.margin,
            loss=tuned(task.name, optimizer).reference_loss,
            sample_budget=task.steps * task.batch_size,
            held_out=task.held_out,
        )
        for task in TASKS
        for optimizer in task.optimizers
    }
