"""What an automation overrides, and nothing else. When each method is called stands in ``callbacks/base.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.ranks import Across
from lightning_automations.core.decision import Brain
from lightning_automations.core.events import Event
from lightning_automations.core.settings import AutomationSettings

__all__ = ["AutomationSurface"]


class AutomationSurface:
    """The methods in which automations differ. Only ``make_brain`` has to be there; the others do nothing by default.

    * ``begin`` and ``end``: training starts and ends; put in place what is needed, and take it away again.
    * ``after_batch``: a training batch is done; keep readings, on the device.
    * ``read`` and ``decide``: a decision is due; hand numbers to the brain, carry out what it says.
    * ``apply_fallback`` and ``after_batch_retired``: the automation retires.
    * ``hear``, ``hear_retired`` and ``bring_back``: another automation changed something, or holds the run for lost.
    * ``values`` and ``summary``: what is logged.
    * ``extra_state`` and ``load_extra_state``: what must survive a checkpoint besides the brain.
    """

    settings_class: ClassVar[type[AutomationSettings]] = AutomationSettings
    metrics_name: ClassVar[str] = ""
    """The middle part of the names under which values are logged; not set: the automation's name in snake_case."""
    across: ClassVar[Mapping[str, Across]] = {}
    """The readings of one decision, and how those of several ranks become one."""

    settings: AutomationSettings
    effective_settings: AutomationSettings

    brain: Any
    """The decision class; what ``make_brain`` made, with the history of the run."""

    def make_brain(self, settings: Any) -> Brain:
        """The decision class, without history. The settings are of the automation's own settings class."""
        raise TypeError(f"{type(self).__name__} has no brain")

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training starts, or starts again from a checkpoint; ``self.brain`` and ``self.retired`` are as saved."""

    def after_batch(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        """One training batch is done. Reads nothing back from the device."""

    def after_batch_retired(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One training batch is done after the retirement: only what the fallback needs."""

    def period_steps(self) -> int | None:
        """Optimizer steps between decisions, or None when the automation calls ``decision_point`` itself."""
        return None

    def read(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, float]:
        """This rank's readings for one decision, by the names in ``across``."""
        return {}

    def across_ranks(self) -> Mapping[str, Across]:
        """``across``, or what is known of it only in the run."""
        return self.across

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        """Ask the brain and carry out what it says through ``adjust``. Runs on all ranks with the same readings."""

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put in place what holds from now on."""

    def values(self) -> Mapping[str, float]:
        """What is logged: names and numbers, the same names from the first step on."""
        return {}

    def hear(self, trainer: Trainer, event: Event) -> None:
        """Another automation changed something that bears on what this one has seen."""

    def hear_retired(self, trainer: Trainer, event: Event) -> None:
        """The same after the retirement: only what the fallback needs."""

    def bring_back(self, trainer: Trainer) -> bool:
        """Another automation holds the run for lost: put it back to a good state, and return whether that was done."""
        return False

    @property
    def tries_rates(self) -> bool:
        """Whether the learning rate is being tried or brought down, so that a metric that stands still says nothing."""
        return False

    @property
    def can_bring_back(self) -> bool:
        """Whether it will put a run that is lost back to a good state by itself."""
        return False

    def end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training is over, or was interrupted; put back what was put in place."""

    def summary(self) -> str:
        """What the automation leaves behind, for its last line in the log."""
        known = {name: value for name, value in self.values().items() if not math.isnan(value)}
        return ", ".join(f"{name} {value:.4g}" for name, value in known.items())

    def extra_state(self) -> dict[str, Any]:
        """What must survive a checkpoint besides the brain, as JSON-able values."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up what ``extra_state`` gave; an empty mapping when nothing was saved."""
