"""What a chart consists of, as plain data: what is to be seen, not how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from lightning_automations.core.decision import Value
from lightning_automations.reporting.record import Change, Series

__all__ = ["Band", "Chart", "Kind", "Level", "Line", "Mark", "marks_of", "shown", "thinned"]

POINTS_OF_A_LINE = 2000
"""More than a screen has columns; a line that is thinned keeps its peaks."""


class Kind(str, Enum):
    """What a mark stands for."""

    ADJUSTMENT = "adjustment"
    RESCUE = "rescue"
    OUTLIER = "outlier"
    STOP = "stop"


RESCUES = frozenset({"divergence", "non_finite", "out_of_memory", "out_of_memory_elsewhere"})
"""Reasons without which a run might have been lost."""


@dataclass(frozen=True)
class Line:
    """A curve; ``stepped`` holds its value until the next point, ``quiet`` is drawn behind the others."""

    name: str
    points: Series
    stepped: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Level:
    """A value that means something over the whole run."""

    name: str
    value: float


@dataclass(frozen=True)
class Band:
    """A range that is aimed at."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Mark:
    """One event on a curve; ``value`` None: there is no curve at this step."""

    step: int
    value: float | None
    kind: Kind
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart over optimizer steps.

    Args:
        key: Of its file and its place on the page.
        title: What it shows.
        axis: What is counted, with its unit.
        lines: At least one.
        levels: Drawn across.
        bands: Drawn behind.
        marks: Events on the first line.
        sessions: Steps at which the run was resumed.
        logarithmic: Whether the axis is; every value is above 0 then, or not drawn.
        note: What should be known when reading it.
    """

    key: str
    title: str
    axis: str
    lines: tuple[Line, ...]
    levels: tuple[Level, ...] = ()
    bands: tuple[Band, ...] = ()
    marks: tuple[Mark, ...] = ()
    sessions: tuple[int, ...] = ()
    logarithmic: bool = False
    note: str = ""


def shown(value: Value) -> str:
    """A value as people read it.

    >>> shown(0.123456), shown(4.0), shown(None)
    ('0.1235', '4', 'none')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)


def kind_of(change: Change) -> Kind:
    """What a change is, for whoever looks for trouble first."""
    if change.parameter == "should_stop":
        return Kind.STOP
    return Kind.RESCUE if change.reason in RESCUES else Kind.ADJUSTMENT


def marks_of(changes: Iterable[Change], line: Series) -> tuple[Mark, ...]:
    """Each change on the curve that it acted on."""
    return tuple(Mark(change.step, line.at(change.step), kind_of(change), words_of(change)) for change in changes)


def words_of(change: Change) -> str:
    """One change in a line."""
    would = "" if change.applied else "would have "
    what = "stopped the run" if change.parameter == "should_stop" else f"changed {change.parameter}"
    values = "" if change.parameter == "should_stop" else f" {shown(change.old)} → {shown(change.new)}"
    return f"{change.automation}: {would}{what}{values}: {change.why}"


def spans_decades(lines: Iterable[Line], *, ratio: float = 30.0) -> bool:
    """Whether a logarithmic axis shows more: all values above 0, the largest many times the smallest."""
    values = [value for line in lines for value in line.points.values if math.isfinite(value)]
    return bool(values) and min(values) > 0 and max(values) > ratio * min(values)


def thinned(points: Series, *, most: int = POINTS_OF_A_LINE) -> Series:
    """The points of a curve, at most about so many: of each stretch its first, lowest, highest and last.

    >>> thinned(Series((1, 2, 3), (5.0, 6.0, 7.0))).steps
    (1, 2, 3)
    """
    count = len(points.steps)
    if count <= most:
        return points
    stretch = math.ceil(4 * count / most)
    kept: list[int] = []
    for start in range(0, count, stretch):
        places = range(start, min(start + stretch, count))
        numbers = [place for place in places if math.isfinite(points.values[place])] or [start]
        extremes = {min(numbers, key=points.values.__getitem__), max(numbers, key=points.values.__getitem__)}
        # A place without a number is a gap that has to be seen.
        gaps = [place for place in places if not math.isfinite(points.values[place])][:1]
        kept += sorted({places[0], places[-1], *extremes, *gaps})
    return Series(tuple(points.steps[place] for place in kept), tuple(points.values[place] for place in kept))
