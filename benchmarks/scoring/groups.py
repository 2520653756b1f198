"""Which runs stand in one table. Nothing is pooled beyond a group; the held-out task stands apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from benchmarks.scenarios import Family, Scenario
from benchmarks.scoring.judging import Run

__all__ = [
    "CONTROL",
    "GROUPS",
    "NOISE",
    "Group",
    "is_ours",
    "of_study",
    "optimizers_of",
    "ours_with_defaults",
    "select",
]

OURS = "ours,"
"""How the names of our own configurations begin."""
DEFAULTS = "ours, defaults"
"""How the names of those begin that run with the defaults."""
NOISE = "plain, rate +1 %"
"""Plain Lightning once more, in other words chance: shown in the tables, and no rival."""
CONTROL = "ours, doing nothing"
"""The negative control: it stands in a section of its own."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Scenarios that may be counted together.

    Args:
        name: As it stands above tables.
        includes: Whether a scenario belongs to it.
    """

    name: str
    includes: Callable[[Scenario], bool]


CLEAN = Group(name="clean runs", includes=lambda scenario: scenario.family is Family.CLEAN)
FINITE = Group(name="finite faults", includes=lambda scenario: scenario.family is Family.FAULT and scenario.finite)
NON_FINITE = Group(
    name="non-finite faults", includes=lambda scenario: scenario.family is Family.FAULT and not scenario.finite
)
RATES_WITHIN = Group(
    name="rates within the default bounds",
    includes=lambda scenario: scenario.family is Family.RATE and scenario.within_bounds,
)
RATES_BEYOND = Group(
    name="rates beyond the default bounds",
    includes=lambda scenario: scenario.family is Family.RATE and not scenario.within_bounds,
)

GROUPS: dict[str, tuple[Group, ...]] = {
    "clipping": (FINITE, NON_FINITE, CLEAN),
    "rate": (RATES_WITHIN, RATES_BEYOND, CLEAN),
    "together": (CLEAN, FINITE, NON_FINITE, RATES_WITHIN, RATES_BEYOND),
}
"""By the name of the study."""


def of_study(study: str, runs: Iterable[Run]) -> list[Run]:
    """The runs of the seeds of which a study is whole: of some seeds only clipping is measured."""
    listed = list(runs)
    whole = {run.outcome.cell.seed for run in listed if run.scenario.family is Family.RATE}
    return listed if study == "clipping" or not whole else [run for run in listed if run.outcome.cell.seed in whole]


def is_ours(method: str) -> bool:
    """Whether a method is a configuration of ours."""
    return method.startswith(OURS)


def ours_with_defaults(methods: Iterable[str]) -> list[str]:
    """Those of ours that run with the defaults: the ones that are held against the peers.

    Raises:
        ValueError: If there are methods of ours and none has the defaults. Comparing none of them would read as if
            none had lost.
    """
    ours = [method for method in methods if is_ours(method) and method != CONTROL]
    chosen = [method for method in ours if method.startswith(DEFAULTS)]
    if ours and not chosen:
        raise ValueError(f"expected a method whose name begins with {DEFAULTS!r}, got {ours}")
    return chosen


def select(
    runs: Iterable[Run],
    *,
    methods: Collection[str],
    group: Group | None = None,
    optimizer: str | None = None,
    held_out: bool = False,
) -> list[Run]:
    """The runs of one table.

    Args:
        runs: All of them.
        methods: Names of the methods in the table.
        group: Its scenarios; None: all.
        optimizer: Its optimizer; None: all.
        held_out: The held-out task instead of the others.
    """
    return [
        run
        for run in runs
        if run.method in methods
        and (group is None or group.includes(run.scenario))
        and (optimizer is None or run.outcome.cell.optimizer == optimizer)
        and run.reference.held_out is held_out
    ]


def optimizers_of(runs: Iterable[Run]) -> list[str]:
    """Names of the optimizers that occur, sorted."""
    return sorted({run.outcome.cell.optimizer for run in runs})
