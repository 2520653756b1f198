"""When a training configuration validates, what that computes, and whether it ever happens in the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_automations.config.analysis.fact import Fact
from lightning_automations.config.analysis.length import Length
from lightning_automations.config.analysis.values import Values, number, whole

__all__ = ["read_metrics", "read_no_validation", "read_validation_frequency"]

Place = tuple[str, ...]

_INTERVAL = "val_check_interval"
_EPOCHS = "check_val_every_n_epoch"


def read_metrics(values: Values) -> Fact[tuple[str, ...]] | None:
    """What validation computes, as ``val/<name>``; empty where it is turned off, None where the file does not tell."""
    for switch in ("val_enabled", "metrics_enabled"):
        if values.at("val", switch) is False:
            return values.told((), "val", switch)
    if not isinstance(values.at("val", "metrics"), Mapping):
        return None
    return values.told(tuple(f"val/{name}" for name in values.keys("val", "metrics")), "val", "metrics")


def read_validation_frequency(values: Values, base: Place) -> Fact[int] | None:
    """Optimizer steps between validations.

    LightningCLI's ``val_check_interval`` is in batches, and across epochs only with ``check_val_every_n_epoch: null``.
    """
    written = values.fact(whole, "val", "val_freq")
    trainer = (*base, "trainer")
    if written is not None or values.at(*trainer, _EPOCHS) is not None or _EPOCHS not in values.keys(*trainer):
        return written
    accumulation = values.fact(whole, *trainer, "accumulate_grad_batches")
    batches = values.fact(_batches, *trainer, _INTERVAL)
    if batches is None:
        return None
    between = batches.value // (1 if accumulation is None else accumulation.value)
    return values.told(max(1, between), *trainer, _INTERVAL)


def read_no_validation(values: Values, base: Place, length: Length) -> Fact[str] | None:
    """Why no validation falls into the run, as a sentence, at the setting that says so; None where one may."""
    trainer = (*base, "trainer")
    limit = values.fact(number, *trainer, "limit_val_batches")
    if limit is not None and limit.value == 0:
        return _because(limit, f"{limit.path} is 0")
    if length.steps is not None:
        steps = length.steps.value
        every = values.fact(whole, "val", "val_freq")
        if every is not None and every.value > steps:
            return _because(every, f"{every.path} is {every.value} and the run has {steps} steps")
        batches = values.fact(_batches, *trainer, _INTERVAL)
        in_run = steps * (1 if length.accumulation is None else length.accumulation.value)
        if batches is not None and batches.value > in_run:
            return _because(batches, f"{batches.path} is {batches.value} and the run has {in_run} batches")
    epochs = values.fact(whole, *trainer, _EPOCHS)
    if length.epochs is not None and epochs is not None and epochs.value > length.epochs.value:
        return _because(epochs, f"{epochs.path} is {epochs.value} and the run has {length.epochs.value:g} epochs")
    return None


def _because(fact: Fact[Any], sentence: str) -> Fact[str]:
    return Fact(value=sentence, path=fact.path, line=fact.line)


def _batches(value: Any) -> int | None:
    """A count of batches; for Lightning a float is a share of an epoch."""
    return None if isinstance(value, float) else whole(value)
