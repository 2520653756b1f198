"""What is known of a run when it is over. Plain Python: scores and tables need neither torch nor Lightning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.store import finite_or_none

__all__ = ["Cell", "Outcome"]


@dataclass(frozen=True, order=True)
class Cell:
    """One run of the scoreboard, by the names of what meets in it."""

    task: str
    optimizer: str
    scenario: str
    method: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one run.

    Args:
        cell: Which run it was.
        score: On the test data with the weights at the end, better when higher; None when the run raised.
        test_loss: On the test data, in the unit of the task; None when the run raised.
        start_loss: Likewise, before the first step.
        error: Type and message of what the run raised, or None.
        steps: Optimizer steps that Lightning counted.
        samples: Training samples that were seen, those of retries included.
        seconds: Wall-clock time of the fit.
        changes: How many adjustments each automation made; empty for peers.
        own_errors: Errors that our package logged: automations that failed and were retired.
        clipped_steps: Steps whose gradient left the method with a norm below that with which it came; 0 for optimizers
            that replace the user's.
        skipped_steps: Steps that reached the optimizer without any gradient.
    """

    cell: Cell
    score: float | None
    test_loss: float | None
    start_loss: float | None
    error: str | None = None
    steps: int = 0
    samples: int = 0
    seconds: float = 0.0
    changes: Mapping[str, int] = field(default_factory=dict)
    own_errors: int = 0
    clipped_steps: int = 0
    skipped_steps: int = 0

    @property
    def ended_well(self) -> bool:
        """Whether the run came to its end with finite results."""
        return self.error is None and all(
            value is not None and math.isfinite(value) for value in (self.score, self.test_loss)
        )

    def as_json(self) -> dict[str, Any]:
        """For a result file; what is not finite becomes null."""
        fields = {**vars(self.cell), **{name: value for name, value in vars(self).items() if name != "cell"}}
        return {name: finite_or_none(value) for name, value in fields.items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Outcome:
        """The outcome that was written."""
        names = Cell.__dataclass_fields__
        cell = Cell(**{name: fields[name] for name in names})
        return cls(cell=cell, **{name: value for name, value in fields.items() if name not in names})
