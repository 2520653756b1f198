"""Fails when Lightning changes where it keeps what was logged."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from lightning_automations.lightning_internals import logged_now, names_logged_in_training, names_logged_now
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader


def test_what_the_running_loop_has_logged() -> None:
    """A validation's values at its end, the training's at the end of the epoch, none of the other's."""
    seen: dict[str, set[str]] = {}

    class Look(pl.callbacks.EarlyStopping):
        def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
            seen["validation"] = names_logged_now(trainer)
            seen["training so far"] = names_logged_in_training(trainer)

        def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            seen["training"] = names_logged_now(trainer)

    class Forked(Regression):
        def on_train_epoch_end(self) -> None:
            self.log("at the end", 1.0)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("forked", 1.0, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    make_trainer([Look("val/loss")], max_epochs=1, val_check_interval=8).fit(Forked(), train_loader(), val_loader())
    assert seen["validation"] == {"val/loss"}
    assert seen["training so far"] == {"train/loss", "forked", "forked_epoch"}
    assert seen["training"] == {"train/loss", "forked", "forked_epoch", "at the end"}


def test_what_was_logged_for_each_of_several_loaders() -> None:
    """Values at the validation's end come with the loader that they were logged for, a step's value not at all."""
    seen: dict[str, float | None] = {}

    class Look(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
            for name in (*names_logged_now(trainer), "nothing"):
                value = logged_now(trainer, name)
                seen[name] = None if value is None else float(value)

    class Two(Regression):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("each", float(dataloader_idx), on_step=True, on_epoch=True)
            self.log("step", 1.0, on_step=True, on_epoch=False)

    trainer = make_trainer([Look()], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(Two(), train_loader(), [val_loader(), val_loader()])
    assert seen == {
        "each/dataloader_idx_0": 0.0,
        "each_epoch/dataloader_idx_0": 0.0,
        "each/dataloader_idx_1": 1.0,
        "each_epoch/dataloader_idx_1": 1.0,
        "nothing": None,
    }
