"""From the folder of a run to what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_automations.reporting.errors import ReportError
from lightning_automations.reporting.journals import JournalReader, find_journal
from lightning_automations.reporting.logged import read_logged
from lightning_automations.reporting.record import RunRecord

__all__ = ["read_run"]


def read_run(place: Path, *, logged: Sequence[Path] = ()) -> RunRecord:
    """Read the journal of a run and the numbers logged beside it.

    Args:
        place: The folder of a run, one with a single run below it, or a journal.
        logged: Further folders in which loggers wrote.

    Raises:
        ReportError: If there is no journal, or none of its lines is of a fit.
    """
    journal = find_journal(place)
    try:
        with journal.open(encoding="utf-8", errors="replace") as file:
            read = JournalReader(file)
    except OSError as error:
        raise ReportError(f"{journal} cannot be read: {error.strerror}.") from error
    if not read.sessions:
        raise ReportError(f"{journal}: expected a journal of a run, and none of its lines is one of a journal.")
    series, problems = read_logged([journal.parent, *logged])
    if read.unreadable:
        problems.append(f"{read.unreadable} line(s) of {journal.name} could not be read and are left out.")
    return RunRecord(
        name=journal.resolve().parent.name,
        journal=journal,
        sessions=read.sessions,
        changes=tuple(read.changes),
        told=tuple(read.told),
        outliers=tuple(read.outliers),
        ends=tuple(read.ends),
        series=series,
        problems=tuple(problems),
    )
