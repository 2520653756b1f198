"""A module that is told its loss and its metrics, to see what the learning-rate automation makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lightning_automations.callbacks.learning_rate import IntelligentLearningRateScheduler
from lightning_automations.core.decision import Reason
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader

RATE = 0.05
WITHOUT_PHASES: Mapping[str, Any] = {"find_start": False, "raise_rate": False, "snapshots": "none", "anneal_share": 0}
"""Settings under which the automation does nothing but lower the rate: no trial, raise, return or anneal."""


class Told(Regression):
    """Reports a loss that depends on the step alone, with a gradient of its own; the metric follows a list."""

    def __init__(
        self, told: Callable[[int], float] | None = None, *, metrics: dict[str, Callable[[int], float]] | None = None
    ) -> None:
        super().__init__(rate=RATE)
        self.tell = told
        self.metrics = metrics or {}

    def told(self, step: int) -> float:
        """The loss at a step."""
        return self.tell(step) if self.tell is not None else 1.0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        return loss - loss.detach() + self.told(self.global_step)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        for name, metric in self.metrics.items():
            self.log(name, metric(self.global_step))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class Rates(Callback):
    """The rate that each optimizer step uses."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.seen.append(float(optimizer.param_groups[0]["lr"]))


def scheduler(**settings: Any) -> IntelligentLearningRateScheduler:
    """The automation that only lowers, with a patience that a short run does not reach, unless others are given."""
    return IntelligentLearningRateScheduler(**{"plateau_patience": 10000, **WITHOUT_PHASES, **settings})


def fit(module: pl.LightningModule, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> list[float]:
    """300 steps, a validation every 16; the rates that were used."""
    rates = Rates()
    trainer = make_trainer([rates, *callbacks], **{"max_steps": 300, "max_epochs": -1, **options})
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint)
    return rates.seen


def done(automation: IntelligentLearningRateScheduler) -> list[tuple[int, Reason, Any]]:
    """Step, reason and new factor of every adjustment."""
    return [(item.step, item.reason, item.new) for item in automation.adjustments]


def jump(step: int) -> float:
    """A loss that jumps after step 100, surely but not as far as an explosion."""
    return 1.0 if step < 100 else 1.4
