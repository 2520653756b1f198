"""What is known of one run under a limit of memory, and when it counts as a success. Plain Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.store import finite_or_none

__all__ = ["BatchOutcome"]


@dataclass(frozen=True, kw_only=True)
class BatchOutcome:
    """The result of one run.

    Args:
        job: Name of the job.
        method: Name of the method.
        share: Room for the run, as a share of what the plain run needs.
        seed: Of network and order of the samples.
        error: Type and message of what the run raised, or how its process died; None: it came to its end.
        finite: Whether all weights are finite at the end.
        once: Whether each epoch that was begun had every sample exactly once.
        epochs: Epochs that were begun: fewer than the job's where a stopping rule ended the run.
        score: On the test data with the weights at the end; None when the run did not come to it.
        score_in_budget: Likewise, with the weights at the moment when samples of trials, of failed steps and of
            training together had used up what the plain run sees.
        difference: Largest difference of a weight to the plain run without a limit.
        reference_score: On the test data, of the plain run without a limit.
        start_score: Likewise, of the network before the first step.
        margin: By how much a score may be below the reference.
        score_name: What the score is called.
        held_out: Whether the job's task is kept apart.
        need_bytes: By how much reserved memory rose during the plain run without a limit.
        plain_seconds: Processor time of that run's fit.
        steps: Optimizer steps.
        budget: Samples that the plain run sees.
        samples: Samples that entered a training step, trials and failed steps included.
        batch: Samples of a batch that the loader delivered in the last epoch.
        micro_batch: Most samples that were run at once in the last epoch, failed attempts included.
        changes: Adjustments of our automations, recoveries included; restarts of a method that restarts.
        seconds: Processor time of the fit as a multiple of ``plain_seconds``.
        room_used: Peak of what was reserved, as a share of the room. A run that fails asked for more than it got.
    """

    job: str
    method: str
    share: float
    seed: int
    margin: float
    score_name: str
    held_out: bool
    reference_score: float
    start_score: float
    need_bytes: int
    plain_seconds: float
    budget: int
    error: str | None = None
    finite: bool = False
    once: bool = False
    epochs: int = 0
    score: float | None = None
    score_in_budget: float | None = None
    difference: float | None = None
    steps: int = 0
    samples: int = 0
    batch: int = 0
    micro_batch: int = 0
    changes: int = 0
    seconds: float = 0.0
    room_used: float | None = None

    @property
    def key(self) -> tuple[str, str, float, int]:
        """Which run it was."""
        return (self.job, self.method, self.share, self.seed)

    @property
    def trained(self) -> bool:
        """Whether the run came to its end, finite, every sample of each epoch once, as good as with memory enough."""
        return self.error is None and self.finite and self.once and self._holds(self.score)

    @property
    def in_budget(self) -> bool:
        """Whether it was also as good when trials, failed steps and training had used up the plain run's samples."""
        return self.trained and self._holds(self.score_in_budget)

    def as_json(self) -> dict[str, Any]:
        """For a result file; what is not finite becomes null."""
        return {name: finite_or_none(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> BatchOutcome:
        """The outcome that was written."""
        return cls(**fields)

    def _holds(self, score: float | None) -> bool:
        return score is not None and math.isfinite(score) and score >= self.reference_score - self.margin
