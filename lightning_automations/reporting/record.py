"""One run as it was written down, read back: no file, no drawing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_automations.core.decision import Value, explanation

__all__ = ["Change", "End", "Outlier", "RunRecord", "Series", "Session", "Told"]


@dataclass(frozen=True)
class Series:
    """A logged value over the run.

    Args:
        steps: Optimizer steps done, rising.
        values: One for each step; NaN and infinities are as they were logged.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, step: int) -> float | None:
        """The last value up to a step, else the first one; None where there is none."""
        if not self.values:
            return None
        return self.values[max(0, bisect_right(self.steps, step) - 1)]

    @property
    def last(self) -> float | None:
        """The last value; None where there is none."""
        return self.values[-1] if self.values else None


@dataclass(frozen=True, kw_only=True)
class Session:
    """One fit; a resumed run has several in one journal.

    Args:
        run: Its name in the journal.
        first_step: Optimizer steps done at its start.
        began: Seconds since 1970; None: not written.
        settings: Of each automation, as they held.
        planned_steps: Of the whole run; None: not known.
    """

    run: str
    first_step: int
    began: float | None
    settings: Mapping[str, Mapping[str, Any]]
    planned_steps: int | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """One adjustment. Unlike ``core.decision.Adjustment`` it takes reasons that this version does not know.

    Args:
        session: Number of the fit, from 0.
        step: Optimizer steps done.
        epoch: Counted from 0; None: not written.
        automation: Who made it.
        parameter: What was changed.
        old: From.
        new: To.
        reason: Why, as the journal has it.
        evidence: The numbers behind it.
        applied: False in a dry run.
    """

    session: int
    step: int
    epoch: int | None
    automation: str
    parameter: str
    old: Value
    new: Value
    reason: str
    evidence: Mapping[str, Any]
    applied: bool

    @property
    def why(self) -> str:
        """The reason in words."""
        return explanation(self.reason)


@dataclass(frozen=True, kw_only=True)
class Told:
    """A note, or a retirement (``retired``) with its reason."""

    session: int
    step: int
    automation: str
    text: str
    retired: bool


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A gradient norm far above the others; ``parameter`` is the one behind it, where that is known."""

    step: int
    norm: float
    threshold: float
    parameter: str | None


@dataclass(frozen=True, kw_only=True)
class End:
    """What an automation said at the end of a fit."""

    session: int
    step: int
    automation: str
    adjustments: int
    retired: bool
    summary: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that is known of a run.

    Args:
        name: What the report calls it.
        journal: The file it was read from.
        sessions: At least one.
        changes: In the order of the journal, as all that follows.
        told: Notes and retirements.
        outliers: Far gradients.
        ends: The last words of every automation in every fit.
        series: Logged values by name.
        problems: What could not be read, in words.
    """

    name: str
    journal: Path
    sessions: tuple[Session, ...]
    changes: tuple[Change, ...] = ()
    told: tuple[Told, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    ends: tuple[End, ...] = ()
    series: Mapping[str, Series] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @cached_property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Of each automation, those that held last."""
        return {name: values for session in self.sessions for name, values in session.settings.items()}

    @property
    def planned_steps(self) -> int | None:
        """Of the whole run, as the last fit planned it."""
        return self.sessions[-1].planned_steps

    @property
    def last_step(self) -> int:
        """The highest step of which anything is known."""
        told: list[Change | Told | End | Outlier] = [*self.changes, *self.told, *self.ends, *self.outliers]
        logged = [series.steps[-1] for series in self.series.values() if series.steps]
        return max([*(item.step for item in told), *logged], default=0)

    @property
    def dry_run(self) -> bool:
        """Whether some automation only said what it would have done."""
        return any(values.get("dry_run") for values in self.settings.values())
