"""What the automations of one fit have in common: the log folder, the learning-rate writer, and each other's ear."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Trainer

from lightning_automations.callbacks.final_report import write_final_report
from lightning_automations.callbacks.harmless import harmless
from lightning_automations.callbacks.journal import Journal, journal_path
from lightning_automations.callbacks.outlets import Outlets
from lightning_automations.callbacks.progress_bar import ProgressBarValues
from lightning_automations.callbacks.rate import RateWriter
from lightning_automations.callbacks.surface import AutomationSurface
from lightning_automations.core.events import Event
from lightning_automations.core.settings import AutomationSettings, RunLength

if TYPE_CHECKING:
    from lightning_automations.callbacks.base import AutomationCallback

__all__ = ["FitSession", "run_length"]


class FitSession:
    """One fit, shared by all automations of a trainer. The first to start opens it, the last to end closes it.

    Args:
        trainer: The trainer, at its start of training.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.run = uuid.uuid4().hex[:12]
        self._has_logger = bool(trainer.loggers)
        self._log_dir = trainer.log_dir  # a collective: every rank comes by here
        self._writes = trainer.is_global_zero
        self._reports: dict[bool | str, Path | None] = {}
        self._journals: dict[Path | None, Journal] = {}
        self.automations = automations_of(trainer)
        self.outlets = Outlets(trainer)
        self.bar = ProgressBarValues(trainer)
        self.length = run_length(trainer)
        self.rate = RateWriter(trainer)
        # All of one checkpoint saved the same; an automation that is new in this run has nothing.
        self.rate.load_state_dict(next((item.rate_state for item in self.automations if item.rate_state), {}))

    def journal(self, setting: str | bool) -> Journal:
        """The journal that a setting asks for; automations with the same setting share it. Only rank zero writes."""
        path = journal_path(setting, log_dir=self._log_dir, has_logger=self._has_logger) if self._writes else None
        return self._journals.setdefault(path, Journal(path, run=self.run))

    def announce(self, trainer: Trainer, event: Event, *, source: AutomationCallback) -> None:
        """Tell every other automation what happened."""
        for automation in self.automations:
            if automation is not source:
                automation.receive(trainer, event)

    def bring_back(self, trainer: Trainer, *, source: AutomationCallback) -> bool:
        """Ask the other automations to bring a lost run back, and say whether one does."""
        return any(item.bring_back(trainer) for item in self.automations if item is not source and item.active)

    def leave(self, settings: AutomationSettings) -> None:
        """One automation has ended; after the last of them, give back what was put in place for the fit.

        Args:
            settings: Those of the automation that ends.
        """
        if settings.report and self._writes:
            self._reports[settings.report] = self.journal(settings.journal).path
        if any(automation.awake for automation in self.automations):
            return
        self.rate.detach()
        self.bar.detach()
        self.outlets.finish()
        while self._reports:
            setting, journal = self._reports.popitem()
            harmless("The report", write_final_report, journal, setting, self.outlets.folders())


def automations_of(trainer: Trainer) -> tuple[AutomationCallback, ...]:
    """The automations of a trainer that are enabled, in the order in which Lightning calls them."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return tuple(
        cast("AutomationCallback", item)
        for item in callbacks
        if isinstance(item, AutomationSurface) and item.settings.enabled
    )


def run_length(trainer: Trainer) -> RunLength:
    """The length of the fit as far as it is known; asking may load the training data, as Lightning's own users do."""
    estimated = trainer.estimated_stepping_batches
    # -1 stands for data without a length
    steps = int(estimated) if 0 <= estimated < float("inf") else None
    epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else None
    steps_per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
    if steps is not None and 0 < steps_per_epoch < float("inf"):
        # max_steps may end the run before max_epochs does, or instead of it
        in_steps = math.ceil(steps / math.ceil(steps_per_epoch))
        epochs = in_steps if epochs is None else min(epochs, in_steps)
    return RunLength(steps=steps, epochs=epochs)
