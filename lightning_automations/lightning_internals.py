"""The only module that touches private attributes of Lightning.

Each function has a test in ``tests/callbacks/test_lightning_internals.py`` that fails when Lightning changes what it
relies on. Nothing public serves in these places.
"""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics import Metric

__all__ = [
    "logged_metric_object",
    "logged_now",
    "logging_step",
    "logs_are_due",
    "names_logged_in_training",
    "unscales_by_itself",
]


def logs_are_due(trainer: Trainer) -> bool:
    """Whether Lightning itself logs after this batch (``log_every_n_steps``, and at the end of a stopped run)."""
    connector: Any = trainer._logger_connector
    return bool(connector.should_update_logs)


def logging_step(trainer: Trainer) -> int:
    """The step under which Lightning logs training metrics; with several optimizers it is not ``global_step``."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def logged_metric_object(trainer: Trainer, name: str) -> Metric | None:
    """The torchmetrics object that was logged under this name in the fit, or None: a number was, or nothing."""
    epoch_loop: Any = trainer.fit_loop.epoch_loop
    for results in (epoch_loop.val_loop._results, epoch_loop._results):
        for result in results.result_metrics:
            if not result.is_tensor and name in results._forked_name(result, on_step=False):
                return result.value if isinstance(result.value, Metric) else None
    return None


def unscales_by_itself(optimizer: Optimizer) -> bool:
    """Whether gradients are still scaled in ``on_before_optimizer_step`` under a GradScaler (fused optimizers)."""
    return bool(_optimizer_handles_unscaling(optimizer))


def logged_now(trainer: Trainer) -> dict[str, Tensor]:
    """What the loop that runs now has logged, by name; ``callback_metrics`` also holds values of earlier loops."""
    metrics: dict[str, Tensor] = trainer._logger_connector.metrics["callback"]
    return metrics


def names_logged_in_training(trainer: Trainer) -> set[str]:
    """Names logged in this epoch's training so far, those included whose value is known at its end only."""
    results = trainer.fit_loop.epoch_loop._results
    return {name for result in results.result_metrics for name in results._forked_name(result, on_step=False)}
