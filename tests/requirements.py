"""What a test needs of the Lightning it runs with, and why; tests/conftest.py skips it under an older one.

Each of these was seen in Lightning 2.4 without any callback of ours, and not in the version that it names. Resumed in
the middle of an epoch, 2.4 does not validate at that epoch's end; resumed after an epoch's last batch, it trains one
batch more.
"""

from __future__ import annotations

import inspect
from typing import Any

import lightning.pytorch as pl
import pytest

__all__ = [
    "checkpoint_from",
    "finds_rate_for_same_fit",
    "has_weight_averaging",
    "resumes_after_last_batch",
    "starts_epoch_without_hook",
    "validates_after_a_time",
    "validates_resumed_epoch",
]

validates_resumed_epoch = pytest.mark.needs_lightning(
    "2.5", "2.4 leaves out the validation of an epoch that is resumed, and repeats one that was done"
)
resumes_after_last_batch = pytest.mark.needs_lightning(
    "2.5", "2.4 trains one batch more when it is resumed from after the last batch of an epoch"
)
starts_epoch_without_hook = pytest.mark.needs_lightning(
    "2.5", "2.4 calls on_train_epoch_start also in an epoch that is resumed"
)
has_weight_averaging = pytest.mark.needs_lightning("2.6", "earlier versions have no EMAWeightAveraging")
finds_rate_for_same_fit = pytest.mark.needs_lightning(
    "2.5.5", "earlier versions train on with the rate of before LearningRateFinder"
)
validates_after_a_time = pytest.mark.needs_lightning("2.6", "earlier versions take no time as val_check_interval")


def checkpoint_from(path: Any, *, weights_only: bool | None = False) -> dict[str, Any]:
    """The arguments of ``Trainer.fit`` for a checkpoint; Lightning before 2.6 is not told how to read it."""
    told = "weights_only" in inspect.signature(pl.Trainer.fit).parameters
    return {"ckpt_path": path, **({"weights_only": weights_only} if told else {})}
