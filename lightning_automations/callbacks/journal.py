"""The journal: every event of every automation as one line of JSON."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_automations.core.recorded import JOURNAL_NAME

__all__ = ["Journal"]

log = logging.getLogger(__name__)


class Journal:
    """Appends events to a file, one JSON object a line; does nothing where it has no path.

    A disk that is full must not end a training: the first error is logged and the journal falls silent.

    Args:
        path: The file, made with its folders at the first event; None: nothing is written.
        run: Identifies this fit, so that a resumed run can append to the same file.
    """

    def __init__(self, path: Path | None, *, run: str) -> None:
        self.path = path
        self._run = run

    def write(self, event: str, automation: str, details: Mapping[str, Any]) -> None:
        """Append one event.

        Args:
            event: ``start``, ``adjustment``, ``outlier``, ``retired``, ``note`` or ``end``.
            automation: Name of the automation.
            details: JSON-able values.
        """
        if self.path is None:
            return
        entry = {"time": round(time.time(), 3), "run": self._run, "event": event, "automation": automation, **details}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, default=str) + "\n")
        except OSError as error:
            log.warning("The journal %s cannot be written (%s); the run goes on without it.", self.path, error)
            self.path = None


def journal_path(setting: str | bool, *, log_dir: str | None, has_logger: bool) -> Path | None:
    """Where the journal goes: ``auto`` follows the logger, a path is taken as it is, False is nowhere."""
    if setting is False:
        return None
    if setting in ("auto", True):
        return Path(log_dir) / JOURNAL_NAME if has_logger and log_dir is not None else None
    return Path(str(setting))
