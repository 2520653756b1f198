"""Every way in which Lightning trains, one row each. The tests of this folder run all automations in all of them.

A new way is one more row; docs/modes.md is printed from these rows (``python -m tests.modes.document``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from tempfile import mkdtemp
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision

from tests.callbacks.helpers import Regression
from tests.modes import ways
from tests.requirements import has_weight_averaging, validates_after_a_time

__all__ = ["MODES", "Mode"]

Options = Callable[[], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Mode:
    """One way to train.

    Args:
        name: As in the table of the documentation.
        trainer: Makes the options of a Trainer, callbacks of others included.
        module: Changes a module class into one that trains in this way.
        data: Makes the loaders of training and validation.
        monitor_metric: What automations that watch a metric are told to watch.
        stays_out: A part of what an automation says that does not work here, by its name.
        needs: Marks of ``tests/requirements.py``, where an older Lightning cannot train in this way.
    """

    name: str
    trainer: Options = dict
    module: Callable[[type[Regression]], Any] = lambda kind: kind
    data: Callable[[], tuple[Any, Any]] = ways.usual
    monitor_metric: str = "val/loss"
    stays_out: Mapping[str, str] = field(default_factory=dict)
    needs: Any = ()

    def __str__(self) -> str:
        return self.name


def _options(**options: Any) -> Options:
    return lambda: dict(options)


def _beside(make: Callable[[], Any], **options: Any) -> Options:
    return lambda: {"callbacks": [make()], **options}


def _checkpoints() -> ModelCheckpoint:
    return ModelCheckpoint(mkdtemp(dir="."), monitor="val/loss", save_top_k=2)


def _scaled() -> dict[str, Any]:
    # precision="16-mixed" alone silently becomes bf16 on a CPU.
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))]}


BATCH, CLIP = "DynamicBatchSizeOptimizer", "AdaptiveGradientClipping"
MANUAL = {BATCH: "optimizes manually"}

MODES = (
    Mode("one device, full precision"),
    Mode("accumulate_grad_batches=2", _options(accumulate_grad_batches=2, max_epochs=16)),
    Mode("precision='bf16-mixed'", _options(precision="bf16-mixed")),
    Mode("16-mixed with a GradScaler", _scaled),
    Mode("precision='64-true'", _options(precision="64-true")),
    Mode("activation checkpointing", module=ways.checkpointed),
    Mode("a network under torch.compile", module=ways.compiled),
    Mode("manual optimization", module=ways.manual, stays_out=MANUAL),
    Mode(
        "manual optimization, two optimizers (GAN)",
        module=ways.adversarial,
        stays_out={**MANUAL, "DynamicLossScheduling": "has no loss_weights"},
    ),
    Mode("LBFGS", module=ways.lbfgs, stays_out={CLIP: "compares gradients"}),
    Mode("training_step that returns None at times", _options(max_epochs=24), ways.returns_nothing_at_times),
    Mode(
        "reload_dataloaders_every_n_epochs=1", _options(reload_dataloaders_every_n_epochs=1), ways.from_hooks, ways.none
    ),
    Mode("val_check_interval=0.5", _options(val_check_interval=0.5)),
    Mode("val_check_interval=4", _options(val_check_interval=4)),
    Mode(
        "val_check_interval=timedelta",
        _options(val_check_interval=timedelta(microseconds=1)),  # after every batch, however fast the machine is
        needs=validates_after_a_time,
    ),
    Mode("check_val_every_n_epoch=2", _options(check_val_every_n_epoch=2)),
    Mode(
        "no validation", module=ways.without_validation_step, data=ways.without_validation, monitor_metric="train/loss"
    ),
    Mode("several validation loaders", module=ways.several_validations, data=ways.several),
    Mode("limit_train_batches=8", _options(limit_train_batches=8, max_epochs=16)),
    Mode("max_steps only", _options(max_steps=128, max_epochs=-1)),
    Mode("max_time", _options(max_time={"minutes": 10})),
    Mode("overfit_batches=4", _options(overfit_batches=4, max_epochs=64)),
    Mode("detect_anomaly", _options(detect_anomaly=True)),
    Mode("iterable dataset without a length", data=ways.streamed),
    Mode("CombinedLoader", module=ways.two_losses, data=ways.combined),
    Mode(
        "EMAWeightAveraging beside",
        _beside(lambda: pl.callbacks.EMAWeightAveraging(decay=0.9)),
        needs=has_weight_averaging,
    ),
    Mode("StochasticWeightAveraging beside", _beside(lambda: StochasticWeightAveraging(swa_lrs=0.01))),
    Mode("GradientAccumulationScheduler beside", _beside(lambda: GradientAccumulationScheduler({4: 2}), max_epochs=16)),
    Mode(
        "ModelCheckpoint beside",
        _beside(_checkpoints, enable_checkpointing=True),
    ),
    Mode("LearningRateMonitor beside", lambda: {"callbacks": [LearningRateMonitor("step")], "logger": CSVLogger(".")}),
)
