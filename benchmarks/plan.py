"""Which runs a measurement consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.methods import METHODS
from benchmarks.methods.method import Method, Study
from benchmarks.methods.plain import NOISE, PLAIN
from benchmarks.outcome import Cell
from benchmarks.scenarios import SCENARIOS, Family, Scenario
from benchmarks.tasks import TASKS

__all__ = ["BENCH", "FULL", "QUICK", "Plan", "competes"]

_FAMILIES = {
    Study.CLIPPING: {Family.CLEAN, Family.FAULT},
    Study.RATE: {Family.CLEAN, Family.RATE},
    Study.TOGETHER: set(Family),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A part of the scoreboard.

    Args:
        name: Of the command that measures it.
        seeds: One run a cell for each.
        clipping_seeds: More of them for methods that only clip, whose differences are small, and plain Lightning.
        tasks: Names of tasks; None: all.
        scenarios: Names of scenarios; None: all.
    """

    name: str
    seeds: tuple[int, ...]
    clipping_seeds: tuple[int, ...] = ()
    tasks: tuple[str, ...] | None = None
    scenarios: tuple[str, ...] | None = None

    def cells(self) -> list[Cell]:
        """All runs, seed after seed, so that a measurement that was cut off is a whole one of fewer seeds."""
        return [
            Cell(task=task.name, optimizer=optimizer, scenario=scenario.name, method=method.name, seed=seed)
            for seed in (*self.seeds, *self.clipping_seeds)
            for task in TASKS
            if _chosen(task.name, self.tasks)
            for optimizer in task.optimizers
            for scenario in SCENARIOS
            if _chosen(scenario.name, self.scenarios)
            for method in METHODS
            if competes(method, scenario) and optimizer in method.optimizers
            if seed in self.seeds or _of_clipping_alone(method, scenario)
        ]


def competes(method: Method, scenario: Scenario) -> bool:
    """Whether a method takes part in a study to which the scenario belongs, and in this scenario of it."""
    in_study = any(scenario.family in _FAMILIES[study] for study in method.studies)
    return in_study and (method.scenarios is None or scenario.name in method.scenarios)


def _of_clipping_alone(method: Method, scenario: Scenario) -> bool:
    in_study = method.studies == {Study.CLIPPING} or method in (PLAIN, NOISE)
    return in_study and scenario.family in _FAMILIES[Study.CLIPPING]


def _chosen(name: str, names: Sequence[str] | None) -> bool:
    return names is None or name in names


QUICK = Plan(
    name="quick",
    seeds=(0,),
    tasks=("wine", "diabetes"),
    scenarios=("clean", "rate x10", "random spikes", "one NaN"),
)
BENCH = Plan(name="run", seeds=(0,))
FULL = Plan(name="full", seeds=(0, 1, 2), clipping_seeds=(3, 4))
