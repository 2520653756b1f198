"""The stopping callbacks of Lightning and Keras themselves, with as much of a trainer around them as they look at."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn

from benchmarks.stopping.curve import Validation

__all__ = ["keras_rule", "lightning_rule"]

_METRIC = "val_loss"


def lightning_rule(**settings: Any) -> Callable[[Validation], bool]:
    """Lightning's ``EarlyStopping``, asked after each validation.

    Args:
        settings: Arguments that differ from the shipped defaults.
    """
    # With several validations in an epoch Lightning chooses this itself, in ``setup``.
    callback = EarlyStopping(_METRIC, check_on_train_epoch_end=False, **settings)
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        sanity_checking=False,
        fast_dev_run=False,
        current_epoch=0,
        should_stop=False,
        strategy=SimpleNamespace(reduce_boolean_decision=_of_one_process),
        callback_metrics={},
    )
    module: Any = None

    def stops(now: Validation) -> bool:
        trainer.callback_metrics[_METRIC] = torch.tensor(now.loss)
        callback.on_validation_end(trainer, module)
        return bool(trainer.should_stop)

    return stops


def keras_rule(**settings: Any) -> Callable[[Validation], bool]:
    """Keras' ``EarlyStopping``, for which each validation ends an epoch.

    Args:
        settings: Arguments that differ from the shipped defaults.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    callback = keras.callbacks.EarlyStopping(monitor=_METRIC, mode="min", **settings)
    model = SimpleNamespace(stop_training=False)
    callback.set_model(model)
    callback.on_train_begin()
    epochs = iter(range(1_000_000))

    def stops(now: Validation) -> bool:
        callback.on_epoch_end(next(epochs), {_METRIC: now.loss})
        return bool(model.stop_training)

    return stops


def _of_one_process(decision: bool, **_: bool) -> bool:
    return decision
