"""Peers that replace the user's optimizer: for a rate that adapts, or for clipping inside the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import Parameter
from torch.optim import Optimizer

from benchmarks.methods.clipping import SkipNonFinite
from benchmarks.methods.method import Method, RunSetup, Study

__all__ = ["OPTIMIZERS", "AveragedWhereJudged"]

Make = Callable[[Iterable[Parameter], RunSetup], Optimizer]


class AveragedWhereJudged(Callback):
    """Puts the averaged weights of a Schedule-Free optimizer in place for each validation and when training ends."""

    def __init__(self) -> None:
        self._optimizer: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._optimizer = trainer.optimizers[0]
        self._optimizer.train()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._optimizer.eval()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._optimizer.train()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._optimizer.eval()


def _ada_gc(parameters: Iterable[Parameter], setup: RunSetup) -> Optimizer:
    from pytorch_optimizer import AdaGC

    return AdaGC(parameters, lr=setup.rate)


def _stable_spam(parameters: Iterable[Parameter], setup: RunSetup) -> Optimizer:
    from pytorch_optimizer import StableSPAM

    return StableSPAM(parameters, lr=setup.rate)


def _schedule_free(rate_factor: float) -> Make:
    def make(parameters: Iterable[Parameter], setup: RunSetup) -> Optimizer:
        from schedulefree import AdamWScheduleFree, SGDScheduleFree

        stand_in = SGDScheduleFree if setup.optimizer == "sgd" else AdamWScheduleFree
        return stand_in(parameters, lr=rate_factor * setup.rate)

    return make


def _prodigy(parameters: Iterable[Parameter], _: RunSetup) -> Optimizer:
    from prodigyopt import Prodigy

    return Prodigy(parameters)


def _momo(rate_factor: float) -> Make:
    def make(parameters: Iterable[Parameter], setup: RunSetup) -> Optimizer:
        from momo import Momo, MomoAdam

        stand_in = Momo if setup.optimizer == "sgd" else MomoAdam
        return stand_in(parameters, lr=rate_factor * setup.rate)

    return make


_CLIPPING = frozenset({Study.CLIPPING})
_RATE = frozenset({Study.RATE})
_ADAMW = frozenset({"adamw"})


def _as_shipped_and_with_skip(name: str, source: str, make: Make) -> tuple[Method, Method]:
    """Two rows for an optimizer that clips, in AdamW's place."""
    return (
        Method(name=name, source=source, studies=_CLIPPING, optimizer=make, optimizers=_ADAMW),
        Method(
            name=f"{name}, skip",
            source=f"{source}; non-finite steps skipped",
            studies=_CLIPPING,
            callbacks=lambda _: [SkipNonFinite()],
            optimizer=make,
            optimizers=_ADAMW,
        ),
    )


OPTIMIZERS: tuple[Method, ...] = (
    *_as_shipped_and_with_skip("AdaGC", "package pytorch_optimizer, shipped defaults, the user's rate", _ada_gc),
    *_as_shipped_and_with_skip(
        "StableSPAM", "package pytorch_optimizer, shipped defaults, the user's rate", _stable_spam
    ),
    Method(
        name="Schedule-Free",
        source="package schedulefree, shipped defaults, the user's rate",
        studies=_RATE,
        callbacks=lambda _: [AveragedWhereJudged()],
        optimizer=_schedule_free(1),
    ),
    Method(
        name="Schedule-Free, rate x10",
        source="likewise at ten times the user's rate: its README starts there for SGD",
        studies=_RATE,
        callbacks=lambda _: [AveragedWhereJudged()],
        optimizer=_schedule_free(10),
        optimizers=frozenset({"sgd"}),
    ),
    Method(
        name="Prodigy",
        source="package prodigyopt, shipped defaults: it finds the rate itself, whatever the user wrote; no scheduler, "
        "one of the two ways that its README recommends",
        studies=_RATE,
        optimizer=_prodigy,
        optimizers=_ADAMW,
    ),
    Method(
        name="MoMo",
        source="package momo-opt, shipped defaults, the user's rate as the cap",
        studies=_RATE,
        optimizer=_momo(1),
    ),
    Method(
        name="MoMo, rate x10",
        source="likewise with ten times the user's rate as the cap; with its average of gradients, a tenth of the size "
        "of SGD's momentum, that is SGD's own step",
        studies=_RATE,
        optimizer=_momo(10),
    ),
)
