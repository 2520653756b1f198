"""The metric that the early stopper watches: where it is logged, which one where none was named, what is better."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from lightning.pytorch import Trainer

from lightning_automations.callbacks.metrics import direction_of, fresh_value, logged_names, not_logged
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.metric_names import is_of_validation, is_validation_loss
from lightning_automations.lightning_internals import names_logged_in_training, names_logged_now

__all__ = ["MonitoredMetric"]

log = logging.getLogger(__name__)

_Mode = Literal["auto", "min", "max"]
_Direction = Literal["min", "max"]


class MonitoredMetric:
    """One metric, followed by the name under which it is logged.

    Args:
        settings: What the user wrote.
        named: Whether the user wrote the metric's name.

    Attributes:
        name: The name.
        direction: Which way is better; None as long as that is not known.
        seen: Whether it was logged at least once.
        wanted: Whether it is still looked for.
    """

    def __init__(self, settings: EarlyStoppingSettings, *, named: bool) -> None:
        self.name = settings.monitor_metric
        self.direction: _Direction | None = None if settings.mode == "auto" else settings.mode
        self.seen = False
        self.wanted = True
        self._settings = settings
        self._named = named
        self._said = False

    def take_up(self, state: Mapping[str, Any]) -> bool:
        """Go on from a saved state; False where it is of another metric than the settings ask for now."""
        name, direction = state.get("monitor", self.name), state.get("direction", self.direction)
        if (self._named and name != self.name) or (self.direction is not None and direction != self.direction):
            return False
        self.name, self.direction, self.seen = name, direction, state.get("seen", False)
        return True

    def fresh_value(self, trainer: Trainer, *, validated_now: bool) -> float | None:
        """The value that was logged in the validation or epoch that ends now, or None.

        Args:
            trainer: The trainer.
            validated_now: Whether what the last validation has logged is of this step too.
        """
        if validated_now and not self.seen:
            return float(trainer.callback_metrics[self.name]) if self.name in trainer.callback_metrics else None
        return fresh_value(trainer, self.name)

    def take_direction(self, trainer: Trainer) -> _Direction:
        """Which way is better, asked when the metric has been logged.

        Raises:
            ConfigError: If nobody says it.
        """
        self.seen = True
        if self.direction is None:
            try:
                self.direction = direction_of(trainer, self.name, self._settings.mode)
            except ConfigError as error:
                given = None if self._named else _direction_given_by_others(trainer, self.name)
                if given is not None:
                    self.direction = given
                    return given
                raise ConfigError(problem.under(self._settings.automation) for problem in error.problems) from None
        return self.direction

    def find(self, trainer: Trainer, *, at_epoch_end: bool, validated: bool) -> str | None:
        """The metric was not logged: wait for it, take another, or say that it is missing; the same on all ranks.

        Args:
            trainer: The trainer.
            at_epoch_end: Whether a training epoch ends, else a validation.
            validated: Whether a validation has run in this fit.

        Returns:
            What to tell the user, or None.

        Raises:
            ConfigError: If the user named the metric and it is missing.
        """
        if self.seen:
            return None
        if at_epoch_end:
            waits = trainer.enable_validation and not validated
        else:
            waits = trainer.is_last_batch or self.name in names_logged_in_training(trainer)
        waits, other = trainer.strategy.broadcast((waits, None if waits or self._named else _other_metric(trainer)))
        if waits:
            return None
        if self._named:
            return self._missing(trainer)
        missing = self.name
        if other is None:
            self.wanted = False
            return f"{missing!r} is not logged and no other metric offers itself; it stays out"
        self.name = other
        return f"{missing!r} is not logged; it watches {other!r} (monitor_metric names another)"

    def warn_if_absent(self, trainer: Trainer) -> None:
        """Said at the end of the sanity check, when a wrong name can still be corrected cheaply.

        Not of a name that tells of no validation: what the training logs cannot be known yet.
        """
        known = not self._named or not is_of_validation(self.name) or self.name in names_logged_now(trainer)
        if not known and trainer.is_global_zero:
            log.warning("%s: %r was not logged in the sanity check", self._settings.automation, self.name)

    def _missing(self, trainer: Trainer) -> str | None:
        if self._settings.strict:
            raise not_logged(trainer, self.name, path=f"{self._settings.automation}.monitor_metric")
        if self._said:
            return None
        self._said = True
        return f"{self.name!r} is not logged; it is waited for"


def _other_metric(trainer: Trainer) -> str | None:
    """A logged metric to watch instead of the default one, or None.

    The first that a ``ModelCheckpoint`` watches, else the first that a plateau scheduler watches, else the only
    validation loss.
    """
    names = logged_names(trainer)
    watched = [*_watched_by_checkpoints(trainer), *_watched_by_schedulers(trainer)]
    for name, _ in watched:
        if name in names:
            return name
    # A value logged per step and per epoch has its plain name too.
    losses = {name for name in names if is_validation_loss(name)}
    plain = [name for name in losses if not (name.endswith("_epoch") and name.removesuffix("_epoch") in losses)]
    return plain[0] if len(plain) == 1 else None


def _direction_given_by_others(trainer: Trainer, name: str) -> _Direction | None:
    """Direction of a metric as the checkpoint or scheduler that it was found at was told."""
    for watched, given in [*_watched_by_checkpoints(trainer), *_watched_by_schedulers(trainer)]:
        if watched == name and given in ("min", "max"):
            direction: _Direction = "max" if given == "max" else "min"
            return direction
    return None


def _watched_by_checkpoints(trainer: Trainer) -> list[tuple[str, str | None]]:
    callbacks = trainer.checkpoint_callbacks
    monitors = [(getattr(callback, "monitor", None), getattr(callback, "mode", None)) for callback in callbacks]
    return [(monitor, mode) for monitor, mode in monitors if monitor is not None]


def _watched_by_schedulers(trainer: Trainer) -> list[tuple[str, str | None]]:
    configs = trainer.lr_scheduler_configs
    return [
        (config.monitor, getattr(config.scheduler, "mode", None))
        for config in configs
        if config.reduce_on_plateau and config.monitor is not None
    ]
