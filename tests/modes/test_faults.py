"""What goes wrong around the automations: training goes on, or ends as plain Lightning would, and nothing is lost."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_automations.callbacks.rate import RateWriter
from tests.callbacks.helpers import Regression, journal_entries, make_trainer, train_loader, val_loader, weights
from tests.modes.ranks import environment
from tests.registry import EPOCHS, ROWS, STEPS_PER_EPOCH, Row, TwoTerms
from tests.requirements import validates_resumed_epoch

every_automation = pytest.mark.parametrize("row", ROWS, ids=str)
METHODS = (
    "begin", "after_batch", "read", "decide", "apply_fallback", "values", "hear", "end", "summary", "extra_state",
)  # fmt: skip
WITHOUT_WHICH_NOTHING_IS_IN_PLACE = ("begin", "apply_fallback", "brain.state_dict", "brain.load_state_dict")
BRAINS_METHODS = ("observe", "state_dict", "load_state_dict")


def fit(module: Regression, *callbacks: Any, **options: Any) -> Any:
    """Eight epochs of 16 steps with a validation after each."""
    trainer = make_trainer(callbacks, **{"max_epochs": EPOCHS, **options})
    trainer.fit(module, train_loader(), val_loader())
    return trainer


def finite(module: Regression) -> bool:
    """Whether the weights are numbers."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in weights(module))


@every_automation
@pytest.mark.parametrize("method", [*METHODS, *(f"brain.{name}" for name in BRAINS_METHODS)])
def test_an_error_anywhere_ends_the_automation_and_not_the_run(
    row: Row, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every method that the frame calls, and in every one of a brain: all steps are done, the weights are sound."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    automation = row.make(max_adjustments=1)

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("broken on purpose")

    owner = automation.brain if method.startswith("brain.") else automation
    monkeypatch.setattr(type(owner), method.removeprefix("brain."), broken)
    # Where nothing is in place that survives an out-of-memory error, it ends the run, as in plain Lightning.
    module = Regression() if method in WITHOUT_WHICH_NOTHING_IS_IN_PLACE else row.module()
    trainer = fit(module, automation)
    stopped = any(item.parameter == "should_stop" for item in automation.adjustments)
    assert stopped or trainer.global_step == EPOCHS * STEPS_PER_EPOCH
    assert finite(module)


@every_automation
@pytest.mark.parametrize("reading", [math.nan, math.inf, -math.inf, 1e308, -1e308, 0.0])
def test_readings_without_sense_hurt_nothing(row: Row, reading: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number that an automation reads is the same impossible one: all steps are done, the weights are sound."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    automation = row.make()
    read = automation.read

    def nonsense(*given: Any) -> dict[str, float]:
        # Whether the metric is there at all is no reading: without it, a name that was written is a mistake.
        return {name: value if name == "present" else reading for name, value in read(*given).items()}

    monkeypatch.setattr(automation, "read", nonsense)
    module = row.module()
    trainer = fit(module, automation)
    assert trainer.global_step == EPOCHS * STEPS_PER_EPOCH or automation.adjustments[-1].parameter == "should_stop"
    assert finite(module)


def struck_in_an_adjustment(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next change of the learning rate is interrupted."""

    def interrupted(*_: Any) -> None:
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(RateWriter, "set_factor", interrupted)


class StrikeLate(Callback):
    """Something strikes the first adjustment after step 40."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self._strike = lambda: struck_in_an_adjustment(error, monkeypatch)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 40:
            self._strike()


def test_interrupted_in_mid_adjustment_it_ends_as_plain_lightning_would(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By Ctrl-C: Lightning's own way out, a journal that ends, and a checkpoint that can be written."""
    journal = tmp_path / "journal.jsonl"
    automations = [row.make(journal=str(journal)) for row in ROWS]
    trainer = make_trainer([StrikeLate(monkeypatch, KeyboardInterrupt()), *automations], max_epochs=EPOCHS)
    with pytest.raises(SystemExit):
        trainer.fit(Regression(), train_loader(), val_loader())
    assert trainer.interrupted
    ended = {entry["automation"] for entry in journal_entries(journal) if entry["event"] == "end"}
    assert ended == {automation.name for automation in automations}
    trainer.save_checkpoint(tmp_path / "interrupted.ckpt")
    assert torch.load(tmp_path / "interrupted.ckpt", weights_only=True)["global_step"] == trainer.global_step


class Terminated(Callback):
    """The scheduler of a cluster asks the process to end."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 40:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("with_automations", [False, True])
def test_asked_to_end_it_saves_what_plain_lightning_saves(with_automations: bool, tmp_path: Path) -> None:
    """SIGTERM: Lightning leaves at the end of the batch, and the last checkpoint is there."""
    automations = [row.make() for row in ROWS] if with_automations else []
    saves = ModelCheckpoint(tmp_path, every_n_train_steps=8, save_top_k=-1)
    trainer = make_trainer([Terminated(), *automations, saves], max_epochs=EPOCHS, enable_checkpointing=True)
    with pytest.raises(BaseException) as left:
        trainer.fit(Regression(), train_loader(), val_loader())
    assert "SIGTERM" in type(left.value).__name__ or isinstance(left.value, SystemExit)
    assert trainer.global_step == 41
    assert torch.load(saves.best_model_path, weights_only=True)["global_step"] == 40


@validates_resumed_epoch
def test_killed_and_resumed_it_decides_as_if_it_had_never_died(tmp_path: Path) -> None:
    """Kill -9 in the middle of an epoch: the journal's lines are whole, and the next process goes on."""
    script = [sys.executable, str(Path(__file__).with_name("script_killed.py"))]
    runs = {}
    for name, kill_at, resume in (("whole", 0, False), ("killed", 60, False), ("resumed", 0, True)):
        folder = tmp_path / ("whole" if name == "whole" else "killed")
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [*script, str(folder), str(kill_at), str(int(resume))],
            env=environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == (-signal.SIGKILL if kill_at else 0), done.stderr
        runs[name] = done.stdout
    assert runs["resumed"] == runs["whole"]
    entries = journal_entries(tmp_path / "killed" / "journal.jsonl")
    assert len({entry["run"] for entry in entries}) == 2


def test_all_automations_with_three_faults_in_one_run(tmp_path: Path) -> None:
    """Memory runs out, gradients are NaN, and the weights are struck: each is overcome, and the run ends well."""
    journal = tmp_path / "journal.jsonl"
    patient = {"patience": 10_000, "max_no_improvement": 10_000}
    automations = [row.make(journal=str(journal), **(patient if "patience" in row.settings else {})) for row in ROWS]
    module = Struck()
    trainer = fit(module, Strikes(), *automations, max_epochs=3 * EPOCHS)
    assert trainer.global_step == 3 * EPOCHS * STEPS_PER_EPOCH
    with torch.no_grad():
        assert module.loss(next(iter(val_loader()))).item() < 0.1
    reasons = {entry["reason"] for entry in journal_entries(journal) if entry["event"] == "adjustment"}
    assert {"out_of_memory", "non_finite", "calibrated"} <= reasons
    assert not any(automation.retired for automation in automations)


class Struck(TwoTerms):
    """From step 60 on, batches of more than two samples do not fit; the loss of step 100 is NaN."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step >= 60 and len(batch[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        output = super().training_step(batch, batch_idx)
        return {**output, "loss": output["loss"] * (math.nan if self.global_step == 100 else 1.0)}


class Strikes(Callback):
    """The weights become NaN after step 200."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 200:
            with torch.no_grad():
                pl_module.layer.weight.fill_(math.nan)
