"""Makes the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_automations.reporting.charts import charts_of
from lightning_automations.reporting.errors import ReportError, require_packages
from lightning_automations.reporting.page import page_of
from lightning_automations.reporting.pictures import save_pictures
from lightning_automations.reporting.reading import read_run

__all__ = ["REPORT_NAME", "write_report"]

REPORT_NAME = "report.html"


def write_report(
    place: Path, *, output: Path | None = None, pictures: Path | None = None, logged: Sequence[Path] = ()
) -> list[Path]:
    """Write the report of a run, and return the files that were written, the page first.

    Args:
        place: The folder of a run, one with a single run below it, or a journal.
        output: The page; None: ``report.html`` beside the journal.
        pictures: Folder for the charts as PNG; None: none are drawn.
        logged: Further folders in which loggers wrote.

    Raises:
        ReportError: If there is no run, a place is of the wrong kind, or the extra ``report`` is not installed.
        OSError: If a file cannot be written.
    """
    require_packages()
    if output is not None and output.is_dir():
        raise ReportError(f"The page: expected a file to write, got the folder {output}. Name {output / REPORT_NAME}.")
    if pictures is not None and pictures.is_file():
        raise ReportError(f"The pictures: expected a folder for several, got the file {pictures}.")
    run = read_run(place, logged=logged)
    page = output if output is not None else run.journal.parent / REPORT_NAME
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(page_of(run), encoding="utf-8")
    drawn = [] if pictures is None else save_pictures(charts_of(run)[0], pictures)
    return [page, *drawn]
