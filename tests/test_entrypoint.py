"""Automations for programs that were written without them: the entry point that Lightning asks for callbacks."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from hatchling.builders.wheel import WheelBuilder
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from lightning_automations import AdaptiveGradientClipping, ConfigError, IntelligentEarlyStopping
from lightning_automations.callbacks.joining import JoinAtSetup
from lightning_automations.entrypoint import callbacks
from tests.callbacks.helpers import Regression, journal_entries, make_trainer, train_loader, val_loader

ROOT = Path(__file__).parent.parent
ALL = [
    "AdaptiveGradientClipping",
    "DynamicBatchSizeOptimizer",
    "IntelligentEarlyStopping",
    "IntelligentLearningRateScheduler",
]
CLIPPING = """
training_automations:
  AdaptiveGradientClipping: {monitoring_frequency: 4, gradient_history_size: 8}
"""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what ``pip install`` writes of our entry points: the metadata of the wheel, without its code."""
    folder = tmp_path_factory.mktemp("metadata")
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if ".dist-info/" in name])
    return folder


@pytest.fixture
def config(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that asks for all automations, named by the variable, in an environment where we are installed."""
    path = tmp_path / "automations.yml"
    path.write_text("training_automations:\n", encoding="utf-8")
    # In front: whatever is installed of us already is hidden by it.
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setenv("LIGHTNING_AUTOMATIONS_CONFIG", str(path))
    return path


def ours(trainer: Any) -> list[str]:
    """The automations of a trainer, by name."""
    return sorted(type(item).__name__ for item in trainer.callbacks if type(item).__name__ in ALL)


def one_of(trainer: Any, name: str) -> Any:
    """The automation of this name."""
    [found] = [item for item in trainer.callbacks if type(item).__name__ == name]
    return found


def fit(trainer: pl.Trainer, module: Regression | None = None, **options: Any) -> None:
    """Train on the small regression."""
    trainer.fit(module or Regression(), train_loader(), val_loader(), **options)


@pytest.mark.parametrize("value", [None, ""])
def test_nothing_is_added_without_the_variable(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever installs the package and does not ask for anything gets nothing."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_CONFIG", raising=False)
    if value is not None:
        monkeypatch.setenv("LIGHTNING_AUTOMATIONS_CONFIG", value)
    assert callbacks() == []


def test_every_trainer_that_fits_gets_automations_of_its_own(config: Path) -> None:
    """Two trainers of one program share nothing, and a second fit adds nothing."""
    first, second = make_trainer(max_epochs=1), make_trainer(max_epochs=1)
    assert ours(first) == []
    fit(first)
    fit(second)
    assert ours(first) == ours(second) == ALL
    assert all(one_of(first, name) is not one_of(second, name) for name in ALL)
    fit(first)
    assert ours(first) == ALL


def test_what_was_passed_by_hand_is_not_doubled(config: Path) -> None:
    """The one of the program holds: a subclass, and one that is switched off as well."""

    class Mine(AdaptiveGradientClipping):
        pass

    trainer = make_trainer([Mine(), IntelligentEarlyStopping(enabled=False)], max_epochs=1)
    fit(trainer)
    assert ours(trainer) == [name for name in ALL if name != "AdaptiveGradientClipping"]
    assert one_of(trainer, "IntelligentEarlyStopping").settings.enabled is False


def test_what_the_module_brings_is_not_doubled(config: Path) -> None:
    """``configure_callbacks`` comes before us, also where the trainer has fitted another module before."""

    class Module(Regression):
        def configure_callbacks(self) -> list[Callback]:
            return [AdaptiveGradientClipping(max_threshold=3.0)]

    trainer = make_trainer(max_epochs=1)
    fit(trainer, Module())
    assert ours(trainer) == ALL
    assert one_of(trainer, "AdaptiveGradientClipping").settings.max_threshold == 3.0
    other = make_trainer(max_epochs=1)
    fit(other)
    fit(other, Module())
    assert ours(other) == ALL
    assert one_of(other, "AdaptiveGradientClipping").settings.max_threshold == 3.0


def test_the_early_stopping_of_the_program_stays(config: Path) -> None:
    """Lightning's own stopper is not ours, and ours is not Lightning's."""
    trainer = make_trainer([EarlyStopping("val/loss")], max_epochs=1)
    fit(trainer)
    assert ours(trainer) == ALL
    assert type(trainer.early_stopping_callback) is EarlyStopping


def test_checkpoints_stay_last(config: Path, tmp_path: Path) -> None:
    """They save what the automations have done."""
    trainer = make_trainer(
        [ModelCheckpoint(tmp_path / "one"), ModelCheckpoint(tmp_path / "other", every_n_train_steps=8)],
        max_epochs=1,
        enable_checkpointing=True,
    )
    fit(trainer)
    assert ours(trainer) == ALL
    assert trainer.callbacks[-2:] == trainer.checkpoint_callbacks


def test_they_act_as_if_they_had_been_passed(config: Path) -> None:
    """The same adjustments at the same steps."""
    config.write_text(CLIPPING)
    asked = make_trainer(max_epochs=2)
    fit(asked)
    asked_for = one_of(asked, "AdaptiveGradientClipping").adjustments
    by_hand = AdaptiveGradientClipping(monitoring_frequency=4, gradient_history_size=8)
    fit(make_trainer([by_hand], max_epochs=2))
    assert asked_for
    assert asked_for == by_hand.adjustments


def test_a_resumed_run_takes_up_their_state(config: Path, tmp_path: Path) -> None:
    """Lightning restores a checkpoint after ``setup``, when they are there: what follows is the same."""
    config.write_text(CLIPPING)

    def run(folder: str, **options: Any) -> pl.Trainer:
        save = ModelCheckpoint(tmp_path / folder, filename="{step}", every_n_train_steps=24, save_top_k=-1)
        trainer = make_trainer([save], max_epochs=3, enable_checkpointing=True)
        fit(trainer, **options)
        return trainer

    whole = run("whole")
    # Lightning would warn of a state in the checkpoint that no callback is there for; a warning is an error here.
    resumed = run("resumed", ckpt_path=tmp_path / "whole" / "step=24.ckpt")
    expected = one_of(whole, "AdaptiveGradientClipping").adjustments
    assert [item for item in expected if item.step <= 24]
    assert [item for item in expected if item.step > 24]
    assert one_of(resumed, "AdaptiveGradientClipping").adjustments == expected


@pytest.mark.parametrize("text", ["training_automations:\n  AdaptiveGradientClipping: {max_treshold: 3}\n", None])
def test_a_wrong_file_is_told_when_a_fit_is_set_up(config: Path, text: str | None) -> None:
    """With file and line, and before anything is trained."""
    config.write_text(text) if text else config.unlink()
    trainer = make_trainer(max_epochs=1)
    with pytest.raises(ConfigError) as caught:
        fit(trainer)
    found = str(caught.value)
    assert f"{config}:2: training_automations" in found if text else f"{config}: expected" in found
    assert "LIGHTNING_AUTOMATIONS_CONFIG: expected a file with sound automations" in found
    assert trainer.global_step == 0


def test_validation_test_and_prediction_never_read_the_file(config: Path) -> None:
    """A variable of the whole process cannot break them."""
    config.unlink()

    class Module(Regression):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.validation_step(batch, batch_idx)

        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch[0])

    trainer = make_trainer()
    assert trainer.validate(Module(), val_loader(), verbose=False)
    assert trainer.test(Module(), val_loader(), verbose=False)
    assert trainer.predict(Module(), val_loader())
    assert ours(trainer) == []


def test_a_relative_path_starts_where_the_trainer_was_made(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program may change its folder before it trains."""
    monkeypatch.setenv("LIGHTNING_AUTOMATIONS_CONFIG", config.name)
    trainer = make_trainer(max_epochs=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fit(trainer)
    assert ours(trainer) == ALL


def test_a_fit_says_what_was_added(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody wonders where the automations come from."""
    config.write_text(CLIPPING)
    with caplog.at_level("INFO", logger="lightning_automations"):
        trainer = make_trainer(max_epochs=1)
        fit(trainer)
        fit(trainer)
    told = [record.getMessage() for record in caplog.records if "added" in record.getMessage()]
    assert told == [f"LIGHTNING_AUTOMATIONS_CONFIG={config}: added AdaptiveGradientClipping"]


def test_the_callback_that_adds_them_has_no_state(config: Path) -> None:
    """Checkpoints know nothing of it, and two of it add nothing twice."""
    [adder] = callbacks()
    assert isinstance(adder, JoinAtSetup)
    assert adder.state_dict() == {}
    trainer = make_trainer([*callbacks(), *callbacks()], max_epochs=1)
    fit(trainer)
    assert ours(trainer) == ALL


PROGRAM = """
import torch
import {package} as pl
from torch.utils.data import DataLoader, TensorDataset


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self.layer(inputs), targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


pl.seed_everything(1)
inputs = torch.randn(64, 4)
data = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Model(), data)
trainer.save_checkpoint("end.ckpt")
"""


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_a_program_gets_them_without_a_change(package: str, config: Path, installed: Path, tmp_path: Path) -> None:
    """A script on either package that does not know us: the automations are there, act and write it down."""
    program = tmp_path / "train.py"
    program.write_text(PROGRAM.format(package=package))
    config.write_text(CLIPPING + "  IntelligentEarlyStopping:\n  journal: journal.jsonl\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "added AdaptiveGradientClipping, IntelligentEarlyStopping" in done.stderr
    entries = journal_entries(tmp_path / "journal.jsonl")
    assert [entry for entry in entries if entry.get("parameter") == "threshold"]
    states = torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"]
    assert {key for key in states if key in ALL} == {"AdaptiveGradientClipping", "IntelligentEarlyStopping"}
    assert states["AdaptiveGradientClipping"]["adjustments"]


def test_both_trainers_know_the_entry_point(config: Path) -> None:
    """The one of ``pytorch_lightning`` asks under its own name."""
    for trainer in (pl.Trainer(logger=False), pytorch_lightning.Trainer(logger=False)):
        assert [item for item in trainer.callbacks if isinstance(item, JoinAtSetup)]
