"""Runs of 240 steps in which every phase of the learning-rate automation has its time, and how they end."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lightning_automations.core.decision import Reason
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader
from tests.callbacks.told import Rates

RATE = 0.02
STEPS = 240
GOOD = 0.05
"""Validation loss; the noise in the data alone makes 0.01 of it, and an untrained network has 14."""
DIVERGED = {Reason.NON_FINITE, Reason.DIVERGENCE}


def fit(module: Regression, *callbacks: Any, **options: Any) -> tuple[pl.Trainer, list[float]]:
    """So many steps, with the rates that were used."""
    rates = Rates()
    trainer = make_trainer([rates, *callbacks], **{"max_steps": STEPS, "max_epochs": -1, **options})
    trainer.fit(module, train_loader(), val_loader())
    return trainer, rates.seen


def held_out(module: Regression) -> float:
    """The loss on the validation batch, in 32 bits."""
    with torch.no_grad():
        return module.float().loss(next(iter(val_loader()))).item()


class Manual(Regression):
    """Calls its optimizer itself."""

    def __init__(self) -> None:
        super().__init__(rate=RATE)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer = self.optimizers()
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss
