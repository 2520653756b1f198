"""``lightning-automations report``: shows what the automations did in a run."""

from __future__ import annotations

import sys
from pathlib import Path

from lightning_automations.reporting.errors import ReportError
from lightning_automations.reporting.writing import write_report

__all__ = ["run_report"]

WRITTEN, REFUSED = 0, 2


def run_report(place: Path, *, output: Path | None, pictures: Path | None) -> int:
    """Write the report and print which files it is made of.

    Args:
        place: The folder of a run, or its journal.
        output: The page; None: ``report.html`` in the run's folder.
        pictures: Folder for the charts as PNG; None: none.

    Returns:
        The exit status: 0, or 2 where there is no report, which is then explained on stderr.
    """
    try:
        written = write_report(place, output=output, pictures=pictures)
    except ReportError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"The report cannot be written: {error.strerror} ({error.filename}).", file=sys.stderr)
        return REFUSED
    for path in written:
        print(path)
    return WRITTEN
