"""A module whose metrics follow a list of numbers, to see what the early stopper makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lightning_automations.callbacks.early_stopping import IntelligentEarlyStopping
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader

OPEN = {"min_epochs": 0, "min_iterations": 0, "warmup_iterations": 0}
STEPS_PER_EPOCH = 16
FLAT = [1.0, 0.5, 0.5]
"""Best in the second epoch: a patience of three epochs ends with the fifth."""


def fit(module: pl.LightningModule, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> pl.Trainer:
    """Train with 16 steps an epoch and a validation after each, 20 epochs unless it is stopped."""
    trainer = make_trainer(callbacks, **{"max_epochs": 20, **options})
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint)
    return trainer


def stopper(**settings: Any) -> IntelligentEarlyStopping:
    """A stopper of the metric ``val/loss`` without gates; its patience is three epochs of 16 steps.

    It does not project: the scripted metrics have no noise, and a dozen of them would be enough to be sure.
    """
    usual = {"monitor_metric": "val/loss", "patience": 3 * STEPS_PER_EPOCH, "convergence_threshold": 0.0}
    return IntelligentEarlyStopping(**{**usual, **OPEN, **settings})


def lightning_reason(name: str, *, before: Any, package: Any = pl) -> Any:
    """Lightning's own reason for a stop; ``before``: what stands for it in versions that have none (before 2.6)."""
    kinds = vars(package.callbacks.early_stopping).get("EarlyStoppingReason")
    return before if kinds is None else kinds[name]


class Scripted(Regression):
    """Logs the next value of a list in each validation; the last one is repeated."""

    def __init__(self, values: Sequence[float], name: str = "val/loss") -> None:
        super().__init__(rate=0.001)
        self.values = list(values)
        self.name = name
        # Saved with the weights, so that a resumed run goes on where the first one was.
        self.register_buffer("validations", torch.tensor(0))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        index = min(int(self.validations), len(self.values) - 1)
        self.log(self.name, self.values[index])

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.validations += 1
