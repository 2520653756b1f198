"""When a run with several terms has succeeded, and what a method costs where nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from benchmarks.losses.tasks import LossTask

__all__ = ["FIXED", "LossOutcome", "harm_percent", "references", "succeeds"]

FIXED = "fixed weights"
"""The method that leaves the weights alone. Its well-set runs are what all others are judged by."""


@dataclass(frozen=True, kw_only=True)
class LossOutcome:
    """What a run came to; its fields are those of the result file.

    Args:
        task, method, term, factor, seed: Which run it was.
        steps: Optimizer steps made.
        scores: On the test data, by term; None where the score is not finite.
        weights: At the end, by term.
    """

    task: str
    method: str
    term: str | None
    factor: float
    seed: int
    steps: int
    scores: Mapping[str, float | None]
    weights: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the result file."""
        return asdict(self)


def references(outcomes: Iterable[LossOutcome], task: LossTask) -> dict[str, float]:
    """The mean score of each term with well-set fixed weights.

    Raises:
        ValueError: If no such run was made, or one of them did not end with finite scores.
    """
    runs = [one for one in outcomes if (one.task, one.method, one.term) == (task.name, FIXED, None)]
    by_term = {name: [score for one in runs if (score := one.scores[name]) is not None] for name in task.weights}
    if not runs or any(len(scores) < len(runs) for scores in by_term.values()):
        raise ValueError(f"expected finite runs of {task.name} with well-set fixed weights, got {by_term}")
    return {name: fmean(scores) for name, scores in by_term.items()}


def succeeds(outcome: LossOutcome, task: LossTask, reference: Mapping[str, float]) -> bool:
    """Whether no term was given up: each score is within its margin. A high score of one buys nothing for another."""
    return all(
        score is not None and score >= reference[name] - task.margins[name] for name, score in outcome.scores.items()
    )


def harm_percent(outcome: LossOutcome, reference: Mapping[str, float]) -> float:
    """How far the worst term lies below its reference, in percent of it; 0 where all are at least as good.

    References are above 0 on all tasks. Two percent of 33 dB are 0.7 dB, far beyond the margin: look at ``succeeds``,
    too, whose margins are in the unit of each score. A run without a finite score has lost all: 100.
    """
    lost = [
        100.0 if score is None else 100 * (reference[name] - score) / reference[name]
        for name, score in outcome.scores.items()
    ]
    return max(0.0, *lost)
