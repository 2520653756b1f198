"""The public attributes of Lightning's ``EarlyStopping``, kept truthful for those who read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping

from lightning_automations.core.decision import Adjustment, Reason, describe
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.stopping_history import History

__all__ = ["reset_attributes", "show_history", "show_stop"]

_REASONS: Mapping[Reason | str, str] = {
    Reason.PLATEAU: "PATIENCE_EXHAUSTED",
    Reason.OVERFITTING: "PATIENCE_EXHAUSTED",
    Reason.CONVERGENCE: "PATIENCE_EXHAUSTED",
    Reason.NON_FINITE: "NON_FINITE_METRIC",
    Reason.THRESHOLD_REACHED: "STOPPING_THRESHOLD",
    Reason.THRESHOLD_CROSSED: "DIVERGENCE_THRESHOLD",
}


def reset_attributes(stopper: EarlyStopping, settings: EarlyStoppingSettings) -> None:
    """All attributes as those of a stopper that has seen nothing."""
    # Lightning before 2.6 has neither: without this, the reason of an earlier stop would stay.
    vars(stopper).update(stopping_reason=None, stopping_reason_message=None)
    EarlyStopping.__init__(
        stopper,
        monitor=settings.monitor_metric,
        min_delta=settings.min_improvement or 0.0,
        patience=settings.patience,
        verbose=settings.verbose,
        mode="min" if settings.mode == "auto" else settings.mode,
        strict=settings.strict,
        check_finite=settings.check_finite,
        stopping_threshold=settings.stopping_threshold,
        divergence_threshold=settings.divergence_threshold,
    )


def show_history(stopper: EarlyStopping, history: History, *, monitor: str, mode: str) -> None:
    """What is watched, the best value and the wait."""
    stopper.monitor, stopper.mode = monitor, mode
    stopper.min_delta = abs(stopper.min_delta) * (1 if mode == "max" else -1)  # Lightning gives it a sign
    stopper.wait_count = history.wait_count
    nothing_yet = -math.inf if mode == "max" else math.inf
    stopper.best_score = torch.tensor(nothing_yet if history.best is None else history.best)


def show_stop(stopper: EarlyStopping, trainer: Trainer, stop: Adjustment) -> None:
    """When and why training was stopped."""
    stopper.stopped_epoch = trainer.current_epoch
    stopper.stopping_reason = _lightning_reason(trainer, stop.reason)
    stopper.stopping_reason_message = describe(stop)


def _lightning_reason(trainer: Trainer, reason: Reason | str) -> Any:
    """The nearest of Lightning's own reasons, from the trainer's package; ours where Lightning has none yet."""
    twin = any(kind.__module__.startswith("pytorch_lightning.") for kind in type(trainer).__mro__)
    package = "pytorch_lightning" if twin else "lightning.pytorch"
    kinds = vars(import_module(f"{package}.callbacks.early_stopping")).get("EarlyStoppingReason")
    return reason if kinds is None else kinds[_REASONS[reason]]
