"""The report at the end of a fit, where it was asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.settings import AutomationSettings
from lightning_automations.reporting.errors import missing_packages
from lightning_automations.reporting.writing import write_report

__all__ = ["refuse_report_without_packages", "write_final_report"]

log = logging.getLogger(__name__)


def refuse_report_without_packages(settings: AutomationSettings) -> None:
    """Say it before anything is trained, not at the end.

    Raises:
        ConfigError: If a report is asked for and what makes it is not installed.
    """
    missing = missing_packages() if settings.report else []
    if missing:
        raise ConfigError(
            [
                Problem(
                    path=f"{settings.automation}.report",
                    expected=f"{', '.join(missing)} to be installed, which make the report",
                    got="an environment without",
                    hint='Run: pip install "lightning-automations[report]"',
                )
            ]
        )


def write_final_report(journal: Path | None, setting: bool | str, logged: Sequence[Path]) -> None:
    """Write it beside the journal, or where the setting says, and say where it is."""
    if journal is None or not journal.exists():
        log.warning("No report is written: the run has no journal, which goes to the folder of the trainer's logger.")
        return
    output = Path(setting) if isinstance(setting, str) else None
    [page] = write_report(journal, output=output, logged=logged)
    log.info("Report of what the automations did: %s", page)
