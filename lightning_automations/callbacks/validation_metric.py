"""Which validation metric the learning-rate automation follows, and which direction of it is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from lightning.pytorch import Trainer

from lightning_automations.callbacks.metrics import (
    direction_of,
    first_validation_loss,
    logged_names,
    not_logged,
    value_at_validation,
)
from lightning_automations.callbacks.surface import AutomationSurface
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.learning_rate_settings import LearningRateSettings

__all__ = ["Direction", "ValidationMetric"]

Direction = Literal["min", "max"]
_MODES: Mapping[str, Literal["auto", "min", "max"]] = {"auto": "auto", "min": "min", "max": "max"}


class ValidationMetric:
    """The metric that is named, else that of the stopper, else the first validation loss; found at a validation.

    Args:
        settings: What the user wrote.
        name: The metric that a checkpoint names, or None.
        direction: Its direction, or None.
    """

    def __init__(self, settings: LearningRateSettings, name: str | None, direction: Direction | None) -> None:
        self._settings = settings
        self.name = name
        self.direction = direction

    def read(self, trainer: Trainer) -> float:
        """Its value, name and direction found at the first validation; NaN where there is none.

        Raises:
            ConfigError: If the metric that is named is not logged, or nobody knows its direction.
        """
        if self.name is None:
            self.name = self._find(trainer)
            if self.name is None:
                return math.nan
            self.direction = self._find_direction(trainer, self.name)
        value = value_at_validation(trainer, self.name)
        return math.nan if value is None else value

    def follow_settings(self) -> bool:
        """Settings given now win over the metric of the run that is resumed; whether they changed it."""
        named, mode = self._settings.monitor_metric, self._settings.mode
        if self.name is None or (named in (None, self.name) and mode in ("auto", self.direction)):
            return False
        self.name = self.direction = None
        return True

    def _find(self, trainer: Trainer) -> str | None:
        named, logged = self._settings.monitor_metric, logged_names(trainer)
        if named is not None:
            if named not in logged:
                raise not_logged(trainer, named, path=f"{self._settings.automation}.monitor_metric")
            return named
        stopper = trainer.early_stopping_callback
        if stopper is not None and stopper.monitor in logged:
            return stopper.monitor
        return first_validation_loss(trainer)

    def _find_direction(self, trainer: Trainer, metric: str) -> Direction:
        try:
            return direction_of(trainer, metric, self._mode_for(trainer, metric))
        except ConfigError as error:
            raise ConfigError(problem.under(self._settings.automation) for problem in error.problems) from None

    def _mode_for(self, trainer: Trainer, metric: str) -> Literal["auto", "min", "max"]:
        """The mode that is set here, else that of a stopper that watches the same metric."""
        stopper = trainer.early_stopping_callback
        if self._settings.mode != "auto" or stopper is None or stopper.monitor != metric:
            return self._settings.mode
        # Our own stopper shows Lightning's default as long as it has not found its direction: its settings count.
        shown = vars(stopper.settings)["mode"] if isinstance(stopper, AutomationSurface) else stopper.mode
        return _MODES[shown]
