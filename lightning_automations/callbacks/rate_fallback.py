"""What holds once the learning-rate automation has retired: the fallback's schedule, from the current rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.fallback_schedule import FallbackSchedule
from lightning_automations.callbacks.ranks import Across, agreed
from lightning_automations.callbacks.remaining import steps_that_remain
from lightning_automations.callbacks.validation_metric import ValidationMetric
from lightning_automations.core.learning_rate import LearningRateBrain
from lightning_automations.core.learning_rate_settings import LearningRateSettings

__all__ = ["FACTOR_NAME", "FollowsFallback"]

FACTOR_NAME = "learning_rate"
LEFT_TO_OTHERS = (
    "another callback, the module or a new scheduler has set the learning rate; the rate is left to it, and the "
    "fallback's schedule has no effect on that optimizer any more"
)


class FollowsFallback(AutomationCallback):
    """The part of the learning-rate automation that follows ``fallback``. Not used by itself."""

    settings_class = LearningRateSettings
    settings: LearningRateSettings
    brain: LearningRateBrain

    _metric: ValidationMetric
    _schedule: FallbackSchedule | None
    _saved_schedule: dict[str, Any] | None
    _schedule_step: int
    _told_of_release: bool

    def free_memory(self) -> None:
        """Give back what only decisions need."""

    def schedule_state(self) -> dict[str, Any]:
        """What must survive a checkpoint, as JSON-able values."""
        return {
            "schedule": self._schedule.state_dict() if self._schedule is not None else self._saved_schedule,
            "schedule_step": self._schedule_step,
            "told_of_release": self._told_of_release,
        }

    def load_schedule_state(self, state: Mapping[str, Any]) -> None:
        """Take up what ``schedule_state`` gave; an empty mapping when nothing was saved."""
        self._schedule = None
        self._saved_schedule = state.get("schedule")
        self._schedule_step = state.get("schedule_step", 0)
        self._told_of_release = state.get("told_of_release", False)

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.free_memory()
        if not self.settings.fallback:
            return
        rate, factor = self.session.rate, self.brain.factor
        start = [[scheduled * factor for scheduled in rates] for rates in rate.scheduled]
        if any(start):
            steps_left = steps_that_remain(trainer)
            self._schedule = FallbackSchedule(self.settings.fallback, start, steps_left=steps_left)
            self._schedule_step = trainer.global_step
            self._write_fallback()

    def after_batch_retired(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._schedule is not None and trainer.global_step > self._schedule_step:
            self._schedule.advance(trainer.global_step - self._schedule_step)
            self._schedule_step = trainer.global_step
            self._write_fallback()
        if self.session.rate.released and not self._told_of_release:
            self._told_of_release = True
            self.note(trainer, LEFT_TO_OTHERS)

    def continue_fallback(self, trainer: Trainer) -> None:
        """Go on with the schedule of a run that had retired, or begin the one that is set now."""
        saved = self._saved_schedule
        if saved is None or saved["scheduler_type"] != self.settings.fallback["scheduler_type"]:
            self.apply_fallback(trainer, trainer.lightning_module)
            return
        self._schedule = FallbackSchedule.from_state(self.settings.fallback, saved)
        self._write_fallback()

    def judge_fallback(self, trainer: Trainer) -> None:
        """Hand a validation to a fallback that follows the metric."""
        if self._schedule is None:
            return
        own = {"metric": self._metric.read(trainer)}
        common, _ = agreed(trainer, own, {"metric": Across.MEAN}, failed=False)
        if math.isfinite(common["metric"]):
            self._schedule.judge(common["metric"], self._metric.direction or "min")
            self._write_fallback()

    def _write_fallback(self) -> None:
        """The fallback's rates take the place of the scheduled ones, this automation's factor is in them."""
        if self._schedule is not None:
            self.session.rate.set_factor(FACTOR_NAME, 1.0)
            self.session.rate.replace_schedule(self._schedule.rates)
