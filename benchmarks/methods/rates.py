"""Peers that schedule the learning rate of the user's optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from benchmarks.methods.method import Method, RunSetup, Study, users_optimizer

__all__ = ["SCHEDULERS", "SteppedAtValidation"]


class _Scheduler(Protocol):
    def step(self, metrics: float) -> None:
        """Take notice of the validation loss, and maybe change the rate."""


class SteppedAtValidation(Callback):
    """Hands the validation loss to a scheduler once after each validation.

    Lightning can step such a scheduler itself, but counts the steps between two of them anew in each epoch: with epochs
    shorter than the validation interval, as here, it would never be stepped.

    Args:
        make: Makes the scheduler at the start of the fit.
    """

    def __init__(self, make: Callable[[Optimizer], _Scheduler]) -> None:
        self._make = make
        self._scheduler: _Scheduler | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._scheduler = self._make(trainer.optimizers[0])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._scheduler is not None:
            self._scheduler.step(trainer.callback_metrics["val/loss"].item())


def _rate_tuned_with_cosine(parameters: Iterable[Parameter], setup: RunSetup) -> Optimizer:
    return users_optimizer(parameters, replace(setup, rate=setup.cosine_rate))


def _cosine(optimizer: Optimizer, setup: RunSetup) -> Mapping[str, Any]:
    return {"scheduler": CosineAnnealingLR(optimizer, T_max=setup.steps), "interval": "step"}


def _greedy(optimizer: Optimizer, **settings: float) -> _Scheduler:
    from transformers.optimization import GreedyLR

    scheduler: _Scheduler = GreedyLR(optimizer, **settings)
    return scheduler


_STUDIES = frozenset({Study.RATE})

SCHEDULERS: tuple[Method, ...] = (
    Method(
        name="cosine",
        source="torch's CosineAnnealingLR to zero at the last step, from a rate tuned with it on the clean task",
        studies=_STUDIES,
        optimizer=_rate_tuned_with_cosine,
        schedule=_cosine,
    ),
    Method(
        name="ReduceLROnPlateau",
        source="torch, shipped defaults, stepped with the validation loss at each of the 20 validations",
        studies=_STUDIES,
        callbacks=lambda _: [SteppedAtValidation(ReduceLROnPlateau)],
    ),
    Method(
        name="GreedyLR",
        source="package transformers, shipped defaults, stepped at each validation as its Trainer does. They suit few "
        "runs of 20 validations: patience 10 allows one change of 5 %, min_lr 1e-3 forbids to lower a rate below it",
        studies=_STUDIES,
        callbacks=lambda _: [SteppedAtValidation(_greedy)],
    ),
    Method(
        name="GreedyLR, its example",
        source="package transformers, with what its example for a run of 20 validations sets: patience 2, factor 0.9, "
        "min_lr 1e-7",
        studies=_STUDIES,
        callbacks=lambda _: [SteppedAtValidation(partial(_greedy, patience=2, factor=0.9, min_lr=1e-7))],
    ),
)
