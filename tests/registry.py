"""One row per automation: under which settings it acts in a short run. Every contract test runs over these rows.

A new automation is one more row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lightning_automations import (
    AdaptiveGradientClipping,
    DynamicBatchSizeOptimizer,
    DynamicLossScheduling,
    IntelligentEarlyStopping,
    IntelligentLearningRateScheduler,
    WeightedLosses,
)
from lightning_automations.callbacks.base import AutomationCallback
from tests.callbacks.helpers import Regression
from tests.own_automation import AdaptiveWeightDecay

__all__ = ["EVERY_ROW", "ROWS", "Decayed", "Hungry", "Row", "TwoTerms"]

EPOCHS = 8
STEPS_PER_EPOCH = 16


class Hungry(Regression):
    """Runs out of memory for every batch of more than two samples, as a GPU would."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if len(batch[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().training_step(batch, batch_idx)


class TwoTerms(WeightedLosses, Regression):
    """A squared and an absolute error, whose weights do not fit their sizes."""

    loss_weights = {"squared": 1.0, "absolute": 0.2}  # noqa: RUF012 - as users write it

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        squared = super().training_step(batch, batch_idx)
        inputs, targets = batch
        return self.weighted(squared=squared, absolute=nn.functional.l1_loss(self.layer(inputs), targets))


class Decayed(Regression):
    """Has a weight decay."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9, weight_decay=1e-3)


@dataclass(frozen=True)
class Row:
    """An automation, the settings under which it acts in 8 epochs of 16 steps, and the module on which it does."""

    automation: type[AutomationCallback]
    settings: Mapping[str, Any] = field(default_factory=dict)
    module: Callable[[], Regression] = Regression

    @property
    def validates(self) -> bool:
        """Whether it decides on a metric of the validation."""
        return "monitor_metric" in self.automation.settings_class.types()

    def make(self, **settings: Any) -> AutomationCallback:
        """The callback with the settings under which it acts, and others on top."""
        return self.automation(**{**self.settings, **settings})

    def __str__(self) -> str:
        return self.automation.__name__


ROWS = (
    Row(IntelligentLearningRateScheduler, {"plateau_patience": 30, "monitor_metric": "val/loss"}),
    Row(DynamicBatchSizeOptimizer, {"adjustment_frequency": 10}, Hungry),
    Row(AdaptiveGradientClipping, {"monitoring_frequency": 4, "gradient_history_size": 8}),
    Row(
        IntelligentEarlyStopping,
        {
            "monitor_metric": "val/loss",
            "patience": 48,
            "min_epochs": 0,
            "min_iterations": 0,
            "warmup_iterations": 0,
        },
    ),
    Row(DynamicLossScheduling, {"baseline_iterations": 16, "adaptation_frequency": 8}, TwoTerms),
)

# Not among ROWS: the tables of what works where are those of our own automations.
EVERY_ROW = (*ROWS, Row(AdaptiveWeightDecay, {"tolerance": 0.0, "patience": 1}, Decayed))
"""Ours, and one that is registered as anyone may do it: what the contract gives, it gives to both."""
