"""Which runs are made: well-set weights, and each term's weight mis-set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.losses.tasks import LossTask

__all__ = ["FACTORS", "LossJob", "jobs"]

FACTORS = (0.01, 100.0)
"""What the weight of one term is multiplied with."""


@dataclass(frozen=True, kw_only=True)
class LossJob:
    """One run, whatever the method.

    Args:
        task: The task.
        seed: Of the network and of the order of the samples.
        term: Whose weight is mis-set; None: all are well set.
        factor: What its well-set weight is multiplied with.
    """

    task: LossTask
    seed: int
    term: str | None = None
    factor: float = 1.0

    @property
    def weights(self) -> dict[str, float]:
        """The weights that the user wrote."""
        return {
            name: weight * (self.factor if name == self.term else 1.0) for name, weight in self.task.weights.items()
        }


def jobs(task: LossTask, *, seeds: Iterable[int]) -> list[LossJob]:
    """All runs of a task: for each seed first the one with well-set weights."""
    return [
        LossJob(task=task, seed=seed, term=term, factor=factor)
        for seed in seeds
        for term, factor in [(None, 1.0), *((name, factor) for name in task.weights for factor in FACTORS)]
    ]
