"""The steps that remain, told at every batch, against the steps that were then made."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback

from lightning_automations.callbacks.remaining import steps_that_remain
from tests.callbacks.helpers import Regression, ResumableLoader, make_trainer, train_loader, val_loader


class Told(Callback):
    """Epoch, step, and the step at which the run was said to end."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, int, int | None]] = []

    def tell(self, trainer: pl.Trainer) -> None:
        left = steps_that_remain(trainer)
        self.ends.append((trainer.current_epoch, trainer.global_step, left and trainer.global_step + left))

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.tell(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step % 2 == 0:
            self.tell(trainer)


class Growing(Regression):
    """Its batches are four times as large from the third epoch on."""

    def train_dataloader(self) -> ResumableLoader:
        return train_loader(batch_size=16 if self.trainer.current_epoch >= 2 else 4)

    def val_dataloader(self) -> Any:
        return val_loader()


def _ends(module: pl.LightningModule, *loaders: Any, **options: Any) -> tuple[list[tuple[int, int, int | None]], int]:
    told = Told()
    trainer = make_trainer([told], **options)
    trainer.fit(module, *loaders)
    # At the last step nothing is left, and 1 is said.
    return [end for end in told.ends if end[1] < trainer.global_step], trainer.global_step


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 3},
        {"max_epochs": 3, "max_steps": 20},
        {"max_epochs": 1, "max_steps": 20},
        {"max_epochs": -1, "max_steps": 20},
        {"max_epochs": 3, "limit_train_batches": 6, "accumulate_grad_batches": 4},
        {"max_epochs": 3, "val_check_interval": 5},
    ],
)
def test_the_steps_that_remain_are_those_that_are_made(options: dict[str, Any]) -> None:
    """By epochs, by steps, by whatever comes first, and with accumulation whose last group is short."""
    ends, last = _ends(Regression(), train_loader(), val_loader(), **options)
    assert len(ends) >= 2
    assert {end for _, _, end in ends} == {last}


def test_steps_of_earlier_longer_epochs_are_not_taken_off() -> None:
    """Two epochs of 16 steps and three of 4: after the growth the end is seen where it is."""
    ends, last = _ends(Growing(), max_epochs=5, reload_dataloaders_every_n_epochs=1)
    assert last == 44
    assert {end for epoch, step, end in ends if step > 32} == {44}


def test_a_run_without_an_end_has_none() -> None:
    """Neither epochs nor steps limit it."""

    class Stop(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step >= 4

    told = Told()
    trainer = make_trainer([told, Stop()], max_epochs=-1)
    trainer.fit(Regression(), train_loader(), val_loader())
    assert {end for _, _, end in told.ends} == {None}
