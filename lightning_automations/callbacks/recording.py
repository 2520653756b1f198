"""How an automation writes down what it does: for the log, the journal, ``callback_metrics`` and the loggers."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import Trainer

from lightning_automations.callbacks.journal import Journal
from lightning_automations.callbacks.outlets import Outlets
from lightning_automations.callbacks.progress_bar import ProgressBarValues
from lightning_automations.callbacks.session import FitSession
from lightning_automations.core.decision import Adjustment, describe
from lightning_automations.core.recorded import value_name
from lightning_automations.core.settings import AutomationSettings
from lightning_automations.lightning_internals import logging_step

__all__ = ["Recorder"]

log = logging.getLogger(__name__)


class Recorder:
    """The pen of one automation in one fit. Rank zero writes; the others only publish values.

    Args:
        settings: The automation's settings; they say where the journal goes and whether this is a dry run.
        metrics_name: The middle part of the names under which values are published.
    """

    def __init__(self, settings: AutomationSettings, metrics_name: str) -> None:
        self._settings = settings
        self._metrics_name = metrics_name
        self._journal = Journal(None, run="")
        self._outlets: Outlets | None = None
        self._bar: ProgressBarValues | None = None

    def open(self, trainer: Trainer, session: FitSession, *, effective: AutomationSettings, retired: bool) -> None:
        """Open the journal for one fit, and say under which settings it begins."""
        self._journal = session.journal(self._settings.journal)
        self._outlets = session.outlets
        self._bar = session.bar if self._settings.progress_bar else None
        self._outlets.settings(self._name, asdict(effective))
        planned = session.length.steps
        self._write(trainer, "start", settings=asdict(effective), retired=retired, planned_steps=planned)
        changes = [
            f"{name} {getattr(self._settings, name)} -> {getattr(effective, name)}"
            for name in type(effective).types()
            if getattr(self._settings, name) != getattr(effective, name)
        ]
        if changes and trainer.is_global_zero:
            log.info("%s: defaults shortened to fit this run: %s", self._name, ", ".join(changes))

    def adjustment(self, trainer: Trainer, adjustment: Adjustment) -> None:
        """One change that was made, or would have been made in a dry run."""
        dry_run = self._settings.dry_run
        sentence = ("(dry run) " if dry_run else "") + describe(adjustment)
        if trainer.is_global_zero:
            log.info("%s", sentence)
        self._event(sentence, step=adjustment.step)
        details = {name: value for name, value in adjustment.as_dict().items() if name != "automation"}
        self._write(trainer, "adjustment", **details, applied=not dry_run)

    def retirement(self, trainer: Trainer, why: str) -> None:
        """The automation hands over to its fallback."""
        if trainer.is_global_zero:
            log.warning("%s retires at step %d: %s", self._name, trainer.global_step, why)
        self._event(f"step {trainer.global_step}: {self._name} retires: {why}", step=trainer.global_step)
        self._write(trainer, "retired", why=why, fallback=dict(self._settings.fallback))

    def note(self, trainer: Trainer, message: str) -> None:
        """Something the user should know that is neither an adjustment nor an error."""
        if trainer.is_global_zero:
            log.info("%s: %s", self._name, message)
        self._write(trainer, "note", message=message)

    def outlier(self, trainer: Trainer, **details: Any) -> None:
        """A far outlier among the readings: for the journal alone, since a faulty run has many."""
        self._write(trainer, "outlier", **details)

    def end(self, trainer: Trainer, *, adjustments: int, retired: bool, summary: str) -> None:
        """The last line: what the automation did and what it leaves."""
        made = f"{adjustments} adjustment(s)" + (" (dry run)" if self._settings.dry_run else "")
        if trainer.is_global_zero:
            log.info("%s: %s%s; %s", self._name, "retired; " if retired else "", made, summary)
        self._write(trainer, "end", adjustments=adjustments, retired=retired, summary=summary)

    def publish(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """Put values where other callbacks find them, as LearningRateMonitor does."""
        named = {name: torch.tensor(value) for name, value in self._named(values).items()}
        trainer.callback_metrics.update(named)

    def log_values(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """Hand values to the loggers, those that are not known yet left out: some loggers refuse NaN."""
        known = {name: value for name, value in self._named(values).items() if math.isfinite(value)}
        if known and self._outlets is not None:
            self._outlets.numbers(known, step=logging_step(trainer))
        if self._bar is not None:
            self._bar.show(self._metrics_name, values)

    @property
    def _name(self) -> str:
        return self._settings.automation

    def _named(self, values: Mapping[str, float]) -> dict[str, float]:
        return {value_name(self._metrics_name, name): value for name, value in values.items()}

    def _event(self, sentence: str, *, step: int) -> None:
        if self._outlets is not None:
            self._outlets.event(sentence, step=step)

    def _write(self, trainer: Trainer, event: str, **details: Any) -> None:
        details.setdefault("step", trainer.global_step)
        self._journal.write(event, self._name, details)
