"""The best weights are put back when training ends."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_automations.callbacks.restore_best import WEIGHTS_KEY
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.curves import Scripted, stopper
from tests.callbacks.helpers import SaveAt, make_trainer, train_loader, val_loader, weights
from tests.requirements import has_weight_averaging, validates_resumed_epoch

CURVE = [1.0, 0.5, 0.6, 0.7, 0.8, 0.9]
"""Best in the second of six epochs."""


class Recorded(Scripted):
    """Notes its parameters at the end of every validation step, as they were validated."""

    def __init__(self, values: list[float]) -> None:
        super().__init__(values)
        self.rate = 0.01
        self.validated: list[list[torch.Tensor]] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.validated.append(weights(self))


def fit(module: pl.LightningModule, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> pl.Trainer:
    """Train six epochs with a validation after each and no sanity check."""
    trainer = make_trainer(callbacks, **{"max_epochs": 6, "num_sanity_val_steps": 0, **options})
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint)
    return trainer


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether two lists of parameters are the same, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("settings", [{"patience": 48}, {"patience": 5000}], ids=["stopped", "ran to its end"])
def test_the_best_weights_are_back_whoever_ended_the_run(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Those of the second validation; the size was said at the start."""
    caplog.set_level(logging.INFO)
    module = Recorded(CURVE)
    fit(module, stopper(restore_best=True, **settings))
    assert equal(weights(module), module.validated[1])
    assert not equal(module.validated[1], module.validated[-1])
    assert "restore_best keeps 2 x 0.0 MB on the host and adds 0.0 MB to a checkpoint" in caplog.text
    assert "weights of step 32 put back" in caplog.text


def test_the_last_weights_are_not_said_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """A run that is best where it ends keeps its weights."""
    caplog.set_level(logging.INFO)
    module = Recorded([1.0, 0.9, 0.8, 0.7])
    fit(module, stopper(restore_best=True, patience=5000), max_epochs=4)
    assert equal(weights(module), module.validated[-1])
    assert "at step 64" in caplog.text
    assert "put back" not in caplog.text


def test_off_by_default_and_never_in_a_dry_run() -> None:
    """The weights at the end are those of the last step."""
    for automation in (stopper(patience=5000), stopper(patience=5000, restore_best=True, dry_run=True)):
        module = Recorded(CURVE)
        fit(module, automation)
        assert equal(weights(module), module.validated[-1])


class Raise(pl.Callback):
    """Ends the run in the middle of the fifth epoch."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 70:
            raise self.error


def test_after_ctrl_c_the_best_weights_are_back() -> None:
    """Lightning then calls on_exception alone."""
    module = Recorded(CURVE)
    with pytest.raises(SystemExit):
        fit(module, Raise(KeyboardInterrupt()), stopper(restore_best=True, patience=5000))
    assert equal(weights(module), module.validated[1])


def test_after_another_error_the_weights_are_left_for_a_resume() -> None:
    """What is saved then must be the state of now."""
    module = Recorded(CURVE)
    with pytest.raises(ZeroDivisionError):
        fit(module, Raise(ZeroDivisionError()), stopper(restore_best=True, patience=5000))
    assert not equal(weights(module), module.validated[1])


def test_a_new_best_that_is_too_small_to_count_is_still_the_best() -> None:
    """min_improvement is for the patience, not for the choice of weights."""
    module = Recorded([1.0, 0.9, 0.95, 0.95])
    fit(module, stopper(restore_best=True, patience=5000, min_improvement=0.5, improvement_threshold=None))
    assert equal(weights(module), module.validated[1])


@has_weight_averaging
@pytest.mark.parametrize("plain", [{}, {"max_adjustments": 0, "fallback": {"early_stopping": True}}])
@pytest.mark.parametrize("order", ["before", "behind"])
def test_under_weight_averaging_the_averaged_weights_are_back(order: str, plain: dict[str, Any]) -> None:
    """Those that were validated, wherever the averaging stands in the list."""

    class ByEpoch(Recorded):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.validations.fill_(self.current_epoch)  # averaged like a weight otherwise
            super().validation_step(batch, batch_idx)

    module, automation = ByEpoch(CURVE), stopper(restore_best=True, patience=5000, **plain)
    averaging = pl.callbacks.EMAWeightAveraging(decay=0.5)
    fit(module, *([averaging, automation] if order == "before" else [automation, averaging]))
    assert equal(weights(module), module.validated[1])


@pytest.mark.parametrize("at", [pytest.param(20, marks=validates_resumed_epoch), 40, 70])
def test_a_resumed_run_puts_the_best_of_the_first_part_back(at: int, tmp_path: Path) -> None:
    """They travel in the checkpoint, under one key, and load without running code."""
    whole, save = Recorded(CURVE), SaveAt(at, tmp_path)
    fit(whole, stopper(restore_best=True, patience=5000), save)
    saved = torch.load(save.path, weights_only=True)[WEIGHTS_KEY]
    assert (saved["step"], saved["value"]) == ((16, 1.0) if at == 20 else (32, 0.5))
    resumed = Recorded(CURVE)
    fit(resumed, stopper(restore_best=True, patience=5000), checkpoint=save.path)
    assert equal(weights(resumed), weights(whole))


def test_a_new_trainer_forgets_the_best_weights() -> None:
    """The same callback in another run: those of the first run never come back."""
    automation = stopper(restore_best=True, patience=5000)
    fit(Recorded([0.1, 0.2]), automation, max_epochs=2)
    module = Recorded([1.0, 2.0])
    fit(module, automation, max_epochs=2)
    assert equal(weights(module), module.validated[0])


def test_after_a_rollback_the_best_ever_judged_is_put_back() -> None:
    """Its weights were good when they were measured, whatever became of the run."""

    class RollBack(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 50:
                automation.receive(trainer, Event(kind=EventKind.ROLLED_BACK, step=10))

    automation, module = stopper(restore_best=True, patience=5000), Recorded(CURVE)
    fit(module, RollBack(), automation)
    assert automation.brain.history.best == pytest.approx(0.7)
    assert equal(weights(module), module.validated[1])


def test_the_weights_of_a_training_metric_are_those_at_its_judgement() -> None:
    """No validation lends its weights; the end of the epoch does."""

    class Training(Recorded):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.log("train/error", CURVE[self.current_epoch], on_step=False, on_epoch=True)
            return self.loss(batch)

        def on_train_epoch_end(self) -> None:
            self.validated.append(weights(self))

    module = Training(CURVE)
    fit(module, stopper(monitor_metric="train/error", restore_best=True, patience=5000), limit_val_batches=0)
    assert equal(weights(module), module.validated[1])


def test_what_modelcheckpoint_saves_at_the_end_holds_the_best_weights(tmp_path: Path) -> None:
    """Its files of the training hold the weights of their time; that is documented."""
    checkpoint = ModelCheckpoint(tmp_path, every_n_epochs=1, save_top_k=-1, filename="{epoch}")
    module = Recorded(CURVE)
    trainer = fit(module, stopper(restore_best=True, patience=5000), checkpoint, enable_checkpointing=True)
    during = torch.load(tmp_path / "epoch=5.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(during["layer.weight"], module.validated[-1][0])
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    after = torch.load(tmp_path / "after.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(after["layer.weight"], module.validated[1][0])


def test_a_failed_stopper_puts_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its failure nobody looks whether later weights are better."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    automation, module = stopper(restore_best=True, patience=5000), Recorded(CURVE)
    seen = automation.brain.observe

    def breaks(**numbers: Any) -> Any:
        if numbers["step"] > 60:
            raise ZeroDivisionError("broken on purpose")
        return seen(**numbers)

    monkeypatch.setattr(type(automation.brain), "observe", lambda _, **numbers: breaks(**numbers))
    fit(module, automation)
    assert automation.retired
    assert equal(weights(module), module.validated[-1])
