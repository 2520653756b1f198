"""The runs on whose curves stopping rules are compared, frozen before any rule was replayed.

Budgets come from pilot curves of seeds that the study does not use: ``python -m benchmarks.stopping.pilot`` prints
where the best step of each job lies on them. No budget was set by looking at how a rule fares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from benchmarks.tables import row_named

__all__ = ["DROP_FACTOR", "JOBS", "VALIDATIONS", "Regime", "StoppingJob", "job_named"]

VALIDATIONS = 50
"""Of each run, evenly spread; the last one is at the end of the budget."""
DROP_FACTOR = 0.1
"""What a planned drop multiplies the learning rate with."""


class Regime(str, Enum):
    """What is right to do with a run."""

    LATE = "late"
    """A slow improver with a budget that is a good deal longer than it needs."""
    EARLY = "early"
    """Over-long training with noise in the training targets: the best step is soon past."""
    SLOW = "slow improvers"
    """Improves until near the end and must not be stopped."""


@dataclass(frozen=True, kw_only=True)
class StoppingJob:
    """One run, but for its seed.

    Args:
        regime: What is right to do with it.
        task: Name of a task of the scoreboard.
        optimizer: ``adamw`` or ``sgd``.
        rate: The learning rate at the start.
        budget: Optimizer steps, a multiple of ``VALIDATIONS``.
        drops: Steps after which the rate is multiplied with ``DROP_FACTOR``.
        dropout: Share of the network's inputs that is dropped in training.
        noise: Share of the training targets that are replaced by another class; in regression the standard deviation
            of the noise added to them, as a multiple of their own.
    """

    regime: Regime
    task: str
    optimizer: str
    rate: float
    budget: int
    drops: tuple[int, ...] = ()
    dropout: float = 0.0
    noise: float = 0.0

    @property
    def interval(self) -> int:
        """Steps between two validations."""
        return self.budget // VALIDATIONS

    @property
    def name(self) -> str:
        """As it stands in tables and result files; no two jobs have the same."""
        return f"{self.regime.value}: {self.task}, {self.kind}"

    @property
    def kind(self) -> str:
        """How it is trained, in words."""
        parts = [f"{self.optimizer} at {self.rate:g}"]
        if self.drops:
            parts.append(f"a tenth of it after {' and '.join(str(step) for step in self.drops)} steps")
        if self.dropout:
            parts.append(f"dropout {self.dropout:g}")
        if self.noise:
            parts.append(f"noise {self.noise:g}")
        return ", ".join(parts)


_late = partial(StoppingJob, regime=Regime.LATE)
_early = partial(StoppingJob, regime=Regime.EARLY)


def _slow(*, budget: int, **how: Any) -> StoppingJob:
    """The rate drops at half and at three quarters of the budget."""
    return StoppingJob(regime=Regime.SLOW, budget=budget, drops=(budget // 2, budget * 3 // 4), **how)


JOBS: tuple[StoppingJob, ...] = (
    # Slow SGD and low rates, step decay, dropout; the budget is about the median best step over 0.6.
    _late(task="diabetes", optimizer="sgd", rate=1e-3, budget=550),
    _late(task="diabetes", optimizer="adamw", rate=2e-4, budget=650),
    _late(task="diabetes", optimizer="adamw", rate=2e-4, budget=1000, dropout=0.3),
    _late(task="diabetes", optimizer="sgd", rate=3e-3, budget=350, drops=(100,)),
    _late(task="diabetes", optimizer="adamw", rate=1e-3, budget=550, drops=(60,)),
    _late(task="wine", optimizer="sgd", rate=1e-3, budget=3500),
    _late(task="wine", optimizer="sgd", rate=3e-3, budget=1150),
    _late(task="wine", optimizer="sgd", rate=3e-3, budget=2300, dropout=0.3),
    _late(task="wine", optimizer="sgd", rate=1e-2, budget=1000, drops=(150,)),
    _late(task="breast_cancer", optimizer="sgd", rate=3e-3, budget=3600, dropout=0.3),
    _late(task="breast_cancer", optimizer="sgd", rate=1e-2, budget=2000, dropout=0.3, drops=(400,)),
    _late(task="textures", optimizer="adamw", rate=3e-3, budget=700, dropout=0.2, drops=(500,)),
    # Noise in the training targets; the budget is about seven times the median best step.
    _early(task="diabetes", optimizer="sgd", rate=3e-3, budget=700, noise=1.0),
    _early(task="diabetes", optimizer="adamw", rate=1e-3, budget=800, noise=1.0),
    _early(task="wine", optimizer="sgd", rate=1e-2, budget=850, noise=0.3),
    _early(task="wine", optimizer="sgd", rate=3e-3, budget=2250, noise=0.4),
    _early(task="breast_cancer", optimizer="sgd", rate=1e-2, budget=2000, noise=0.3),
    _early(task="breast_cancer", optimizer="adamw", rate=1e-3, budget=1100, noise=0.3),
    _early(task="breast_cancer", optimizer="sgd", rate=3e-3, budget=3000, noise=0.4),
    # Budgets at whose end the loss still falls; step decay, and dropout alone.
    _slow(task="diabetes", optimizer="adamw", rate=2e-4, budget=800, dropout=0.3),
    _slow(task="wine", optimizer="sgd", rate=1e-3, budget=1500, dropout=0.3),
    _slow(task="breast_cancer", optimizer="sgd", rate=3e-3, budget=2000),
    _slow(task="photographs", optimizer="adamw", rate=3e-3, budget=400),
    _slow(task="characters", optimizer="adamw", rate=3e-3, budget=500),
    _slow(task="textures", optimizer="sgd", rate=3e-2, budget=1000),
    StoppingJob(regime=Regime.SLOW, task="diabetes", optimizer="adamw", rate=2e-4, budget=500, dropout=0.3),
    StoppingJob(regime=Regime.SLOW, task="wine", optimizer="sgd", rate=1e-3, budget=1500, dropout=0.3),
    StoppingJob(regime=Regime.SLOW, task="breast_cancer", optimizer="sgd", rate=3e-3, budget=1000, dropout=0.3),
    # Held out: budgets and rates were written down without a pilot.
    _late(task="snippets", optimizer="adamw", rate=3e-4, budget=1500),
    _early(task="snippets", optimizer="adamw", rate=1e-3, budget=1500, noise=0.3),
    _slow(task="snippets", optimizer="adamw", rate=1e-3, budget=600),
)


def job_named(name: str) -> StoppingJob:
    """The job of this name.

    Raises:
        ValueError: If there is none.
    """
    return row_named(name, JOBS)
