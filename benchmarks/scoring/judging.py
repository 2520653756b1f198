"""Whether a run succeeded, and if not, why. Plain Python, as everything in this package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from benchmarks.outcome import Outcome
from benchmarks.scenarios import Scenario, scenario_named

__all__ = ["Failure", "Reference", "References", "Run", "judge"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What runs of a task with an optimizer are held against: the best tuned clean run.

    Args:
        score: Its score on the test data.
        margin: A run succeeds when its score is at most this below.
        loss: Its loss on the test data.
        sample_budget: Training samples that a run may see, those of retries included.
        held_out: Whether the task is kept out of all design work: reported apart.
    """

    score: float
    margin: float
    loss: float
    sample_budget: int
    held_out: bool = False


References = Mapping[tuple[str, str], Reference]
"""By the names of task and optimizer."""


class Failure(str, Enum):
    """Why a run does not count as a success. The first that applies."""

    RAISED = "raised an error"
    NOT_FINITE = "ended non-finite"
    OVER_BUDGET = "saw too many samples"
    BELOW_MARGIN = "below the margin"


@dataclass(frozen=True, kw_only=True)
class Run:
    """An outcome with all that is needed to count it."""

    outcome: Outcome
    scenario: Scenario
    reference: Reference
    failure: Failure | None

    @property
    def success(self) -> bool:
        return self.failure is None

    @property
    def method(self) -> str:
        return self.outcome.cell.method

    @property
    def place(self) -> tuple[str, str]:
        """Task and optimizer."""
        return self.outcome.cell.task, self.outcome.cell.optimizer

    @property
    def pair(self) -> tuple[str, str, str, int]:
        """What two runs share that may be compared: everything but the method."""
        return (*self.place, self.outcome.cell.scenario, self.outcome.cell.seed)


def judge(outcomes: Iterable[Outcome], references: References) -> list[Run]:
    """Every outcome with its verdict, in the order of the cells.

    Args:
        outcomes: One a cell.
        references: For each task and optimizer that occurs.

    Raises:
        ValueError: If a cell occurs twice, or has no reference, or its scenario is not in the table.
    """
    runs = {}
    for outcome in outcomes:
        cell = outcome.cell
        if cell in runs:
            raise ValueError(f"expected one outcome a cell, got two of {cell}")
        if (cell.task, cell.optimizer) not in references:
            raise ValueError(f"expected a reference for {cell.task!r} with {cell.optimizer!r}, got none")
        reference = references[cell.task, cell.optimizer]
        runs[cell] = Run(
            outcome=outcome,
            scenario=scenario_named(cell.scenario),
            reference=reference,
            failure=_failure(outcome, reference),
        )
    return [runs[cell] for cell in sorted(runs)]


def _failure(outcome: Outcome, reference: Reference) -> Failure | None:
    if outcome.error is not None:
        return Failure.RAISED
    if outcome.score is None or not outcome.ended_well:
        return Failure.NOT_FINITE
    if outcome.samples > reference.sample_budget:
        return Failure.OVER_BUDGET
    if outcome.score < reference.score - reference.margin:
        return Failure.BELOW_MARGIN
    return None
