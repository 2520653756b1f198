"""A recorded run. Plain Python: rules are replayed on it without the task that it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Curve", "Validation"]

_DIGITS = 6
"""Of a recorded figure; every rule sees the same rounded ones."""
_SERIES = (
    "training_losses", "validation_losses", "validation_scores", "test_losses", "test_scores", "rates",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What a rule is shown. The test data are not in it.

    Args:
        step: Optimizer steps done.
        epochs_done: Passes over the training data that are complete.
        training_loss: Mean over the steps since the last validation.
        loss: On the validation data.
        rate: The learning rate, as the next step will use it.
        drop_ahead: Whether the schedule will drop it later in the run; that is planned, so that a rule may know it.
    """

    step: int
    epochs_done: int
    training_loss: float
    loss: float
    rate: float
    drop_ahead: bool


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run to the end of its budget, one entry of each series for every validation.

    Args:
        job: Name of the job.
        regime: Value of its regime.
        task: Name of its task.
        kind: How it was trained, in words.
        seed: Of network, order of the samples, dropout and noise.
        interval: Steps between two validations; the budget is as many intervals as there are entries.
        steps_per_epoch: Steps of one pass over the training data.
        margin: By how much a test score may be below that of the full run.
        held_out: Whether the task is kept out of all design work.
        training_losses: Mean training loss since the last validation.
        validation_losses: What the rules watch; lower is better.
        validation_scores: Better when higher.
        test_losses: On the test data, which no rule sees.
        test_scores: Likewise, better when higher.
        rates: The learning rate that the next step will use.
    """

    job: str
    regime: str
    task: str
    kind: str
    seed: int
    interval: int
    steps_per_epoch: int
    margin: float
    held_out: bool
    training_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    validation_scores: tuple[float, ...]
    test_losses: tuple[float, ...]
    test_scores: tuple[float, ...]
    rates: tuple[float, ...]

    @property
    def key(self) -> tuple[str, int]:
        """Which run it was."""
        return (self.job, self.seed)

    @property
    def budget(self) -> int:
        """Optimizer steps of the whole run."""
        return self.interval * len(self.validation_losses)

    @property
    def epochs(self) -> int:
        """Epochs that a user would plan for such a run: those it takes part in, the last one cut off or not."""
        return math.ceil(self.budget / self.steps_per_epoch)

    def validations(self) -> list[Validation]:
        """What a rule is shown, in order."""
        series = zip(self.training_losses, self.validation_losses, self.rates, strict=True)
        drops = [index for index, (before, after) in enumerate(pairwise(self.rates), start=1) if after < before]
        last_drop = max(drops, default=0)
        return [
            Validation(
                step=step,
                epochs_done=step // self.steps_per_epoch,
                training_loss=training_loss,
                loss=loss,
                rate=rate,
                drop_ahead=index < last_drop,
            )
            for index, (step, (training_loss, loss, rate)) in enumerate(zip(self._steps(), series, strict=True))
        ]

    def best(self, *, until: int) -> int:
        """Index of the best validation loss so far: the weights that would be put back.

        Args:
            until: Index of the last validation that took place.
        """
        losses = [loss if math.isfinite(loss) else math.inf for loss in self.validation_losses[: until + 1]]
        return losses.index(min(losses))

    @property
    def best_share(self) -> float:
        """The best step of the full run, as a share of the budget."""
        return (self.best(until=len(self.validation_losses) - 1) + 1) / len(self.validation_losses)

    def as_json(self) -> dict[str, Any]:
        """For a result file; what is not finite becomes null."""
        series = {name: [_rounded(value) for value in getattr(self, name)] for name in _SERIES}
        return {**vars(self), **series}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Curve:
        """The curve that was written; null becomes NaN."""
        series = {name: tuple(math.nan if value is None else value for value in fields[name]) for name in _SERIES}
        return cls(**{**fields, **series})

    def _steps(self) -> range:
        return range(self.interval, self.budget + 1, self.interval)


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
