"""Reads a logged metric, and finds out whether lower or higher is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lightning.pytorch import Trainer

from lightning_automations.core.errors import ConfigError, Problem, nearest
from lightning_automations.core.metric_names import direction_from_name, is_validation_loss
from lightning_automations.lightning_internals import logged_metric_object, logged_now, names_logged_in_training

__all__ = [
    "direction_of",
    "first_validation_loss",
    "fresh_value",
    "logged_names",
    "not_logged",
    "value_at_validation",
]


def direction_of(trainer: Trainer, name: str, mode: Literal["auto", "min", "max"]) -> Literal["min", "max"]:
    """Whether a metric is better when it is lower or higher.

    Asked after a validation, when the metric has been logged.

    Args:
        trainer: The trainer.
        name: Name of the metric as it is logged.
        mode: ``min`` and ``max`` are taken as they are; ``auto`` asks the torchmetrics object that was logged under
            this name, else the name.

    Raises:
        ConfigError: If neither the object nor the name says it.
    """
    if mode != "auto":
        return mode
    metric = logged_metric_object(trainer, name)
    if metric is not None and metric.higher_is_better is not None:
        return "max" if metric.higher_is_better else "min"
    direction = direction_from_name(name)
    if direction is None:
        raise ConfigError(
            [
                Problem(
                    path="mode",
                    expected=f"min or max, because the name {name!r} does not say which is better",
                    got="auto",
                    hint="Set mode to min if a lower value is better, to max if a higher one is.",
                )
            ]
        )
    return direction


def fresh_value(trainer: Trainer, name: str) -> float | None:
    """What was logged under this name in the validation or training epoch that ends now, or None: each value once."""
    value = logged_now(trainer, name)
    return None if value is None else float(value)


def value_at_validation(trainer: Trainer, name: str) -> float | None:
    """What the validation that ends now says of a metric, or None; of a metric of the training, its last value."""
    value = fresh_value(trainer, name)
    if value is None and name in trainer.callback_metrics and name in names_logged_in_training(trainer):
        return float(trainer.callback_metrics[name])
    return value


def logged_names(trainer: Trainer) -> list[str]:
    """What was logged by the user, without the values of the automations themselves."""
    return [name for name in trainer.callback_metrics if not name.startswith("automation/")]


def first_validation_loss(trainer: Trainer) -> str | None:
    """The first logged name that is a loss of the validation, or None."""
    return next((name for name in logged_names(trainer) if is_validation_loss(name)), None)


def not_logged(trainer: Trainer, name: str, *, path: str) -> ConfigError:
    """The error for a metric that the user named and that nobody logged.

    Args:
        trainer: The trainer.
        name: The metric.
        path: Dotted path of the setting that names it.
    """
    names = logged_names(trainer)
    return ConfigError(
        [
            Problem(
                path=path,
                expected=f"a logged metric ({', '.join(names) if names else 'nothing was logged'})",
                got=repr(name),
                hint=_continued(name, names) or nearest(name, names),
            )
        ]
    )


def _continued(name: str, names: Sequence[str]) -> str | None:
    """The question to ask where a name was logged with something behind it: a loader's number, or a scale's."""
    longer = [repr(other) for other in names if other.startswith(name)][:3]
    return f"Did you mean {' or '.join(longer)}?" if longer else None
