"""Finds a run's journal and reads it, line by line: a line that cannot be read is counted, and the others count."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_automations.core.recorded import JOURNAL_NAME
from lightning_automations.reporting.errors import ReportError
from lightning_automations.reporting.record import Change, End, Outlier, Session, Told

__all__ = ["JournalReader", "find_journal"]

_DEPTHS = ("*", "*/*", "*/*/*")
_SHOWN = 5


def find_journal(place: Path) -> Path:
    """The journal of a run.

    Args:
        place: The journal itself, the folder of a run, or a folder with one run below it.

    Raises:
        ReportError: If there is none, or more than one.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise ReportError(f"{place}: expected the folder of a run, and there is no such folder.")
    if (place / JOURNAL_NAME).is_file():
        return place / JOURNAL_NAME
    below = sorted(found for depth in _DEPTHS for found in place.glob(f"{depth}/{JOURNAL_NAME}"))
    if len(below) == 1:
        return below[0]
    if below:
        folders = ", ".join(str(found.parent) for found in below[:_SHOWN])
        raise ReportError(f"{place}: expected one run, and there are {len(below)} below it: {folders}. Name one.")
    raise ReportError(
        f"{place}: no {JOURNAL_NAME} in it or below it. Automations write it into the folder of the trainer's logger; "
        "without a logger, or with 'journal: false', a run leaves none. A journal elsewhere can be named itself."
    )


@dataclass
class _Fit:
    """A session while its lines come in."""

    run: str
    first_step: int
    began: float | None
    settings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    planned_steps: int | None = None


class JournalReader:
    """Takes the lines of one journal.

    Args:
        lines: As they stand in the file.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.changes: list[Change] = []
        self.told: list[Told] = []
        self.outliers: list[Outlier] = []
        self.ends: list[End] = []
        self.unreadable = 0
        self._fits: list[_Fit] = []
        for line in lines:
            if line.strip():
                self._take_line(line)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Every fit, in the order in which they began."""
        return tuple(Session(**vars(fit)) for fit in self._fits)

    def _take_line(self, line: str) -> None:
        # A run that was killed leaves half a line; a line of another program is none of ours.
        try:
            self._take(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            self.unreadable += 1

    def _take(self, entry: Mapping[str, Any]) -> None:
        step = int(entry["step"])
        readers = {
            "start": self._start,
            "adjustment": self._adjustment,
            "note": self._note,
            "retired": self._retired,
            "outlier": self._outlier,
            "end": self._end,
        }
        reader = readers[entry["event"]]
        session = self._session(str(entry["run"]), step, entry.get("time"))
        reader({**entry, "automation": str(entry["automation"]), "step": step, "session": session})

    def _session(self, run: str, step: int, time: Any) -> int:
        # Of two programs that share a journal, each goes on with its own.
        number = next((index for index, fit in enumerate(self._fits) if fit.run == run), None)
        if number is not None:
            return number
        self._fits.append(_Fit(run, step, float(time) if time is not None else None))
        return len(self._fits) - 1

    def _start(self, entry: Mapping[str, Any]) -> None:
        fit = self._fits[entry["session"]]
        fit.settings[entry["automation"]] = dict(entry["settings"])
        planned = entry.get("planned_steps")
        fit.planned_steps = fit.planned_steps if planned is None else int(planned)

    def _adjustment(self, entry: Mapping[str, Any]) -> None:
        self.changes.append(
            Change(
                epoch=None if entry.get("epoch") is None else int(entry["epoch"]),
                parameter=str(entry["parameter"]),
                old=_value(entry["old"]),
                new=_value(entry["new"]),
                reason=str(entry["reason"]),
                evidence=dict(entry.get("evidence") or {}),
                applied=bool(entry.get("applied", True)),
                **_place(entry),
            )
        )

    def _note(self, entry: Mapping[str, Any]) -> None:
        self.told.append(Told(text=str(entry["message"]), retired=False, **_place(entry)))

    def _retired(self, entry: Mapping[str, Any]) -> None:
        self.told.append(Told(text=str(entry["why"]), retired=True, **_place(entry)))

    def _outlier(self, entry: Mapping[str, Any]) -> None:
        dominant = entry.get("dominant") or {}
        parameter = dominant.get("parameter")
        parameter = None if parameter is None else str(parameter)
        norm, threshold = float(entry["norm"]), float(entry["threshold"])
        self.outliers.append(Outlier(step=entry["step"], norm=norm, threshold=threshold, parameter=parameter))

    def _end(self, entry: Mapping[str, Any]) -> None:
        self.ends.append(
            End(
                adjustments=int(entry["adjustments"]),
                retired=bool(entry["retired"]),
                summary=str(entry["summary"]),
                **_place(entry),
            )
        )


def _place(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("session", "step", "automation")}


def _value(value: Any) -> float | int | str | bool | None:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return json.dumps(value)
