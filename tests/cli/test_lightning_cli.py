"""Our callbacks in a LightningCLI of either package, named by their class path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import yaml
from lightning.pytorch.cli import LightningCLI
from pytorch_lightning.cli import LightningCLI as PytorchLightningCLI

from lightning_automations import IntelligentEarlyStopping
from lightning_automations.config.names import SETTINGS_CLASSES
from lightning_automations.core.documentation import setting_descriptions
from lightning_automations.core.settings import AutomationSettings
from tests.callbacks.helpers import Regression, train_loader, val_loader

CONFIG = """
trainer:
  accelerator: cpu
  max_epochs: 4
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning_automations.AdaptiveGradientClipping
      init_args: {max_threshold: 5.0}
    - class_path: lightning_automations.IntelligentEarlyStopping
      init_args: {monitor_metric: val/loss, patience: 16, fallback: {early_stopping: true}}
"""


class Data(pl.LightningDataModule):
    """16 training batches and one for validation."""

    def train_dataloader(self) -> Any:
        return train_loader()

    def val_dataloader(self) -> Any:
        return val_loader()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], LightningCLI]:
    """Runs ``fit`` from the command line of a program with a configuration."""

    def from_command_line(text: str) -> LightningCLI:
        path = tmp_path / "config.yml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr("sys.argv", ["train.py", "fit", f"--config={path}"])
        return LightningCLI(Regression, Data, save_config_callback=None, seed_everything_default=1)

    return from_command_line


def test_what_is_written_holds_and_defaults_are_fitted_to_the_run(run: Callable[[str], LightningCLI]) -> None:
    """LightningCLI passes every setting; the ones that equal the default count as not written."""
    cli = run(CONFIG)
    stopper = cli.trainer.early_stopping_callback
    assert isinstance(stopper, IntelligentEarlyStopping)
    assert (stopper.settings.monitor_metric, stopper.settings.fallback) == ("val/loss", {"early_stopping": True})
    assert (stopper.effective_settings.patience, stopper.effective_settings.min_epochs) == (16, 1)
    assert cli.trainer.global_step > 0


def test_a_wrong_name_is_refused_before_training(
    run: Callable[[str], LightningCLI], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the message of LightningCLI, which knows the settings by name and type."""
    with pytest.raises(SystemExit):
        run(CONFIG.replace("max_threshold", "max_treshold"))
    assert "max_treshold" in capsys.readouterr().err


EITHER = pytest.mark.parametrize("kind", [LightningCLI, PytorchLightningCLI], ids=["lightning", "pytorch_lightning"])
EACH = pytest.mark.parametrize("settings", SETTINGS_CLASSES, ids=lambda settings: settings.automation)


def _printed(kind: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a program without a model of its own prints before it ends."""
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        kind(run=False, save_config_callback=None)
    assert caught.value.code == 0
    return capsys.readouterr().out


@EITHER
@EACH
def test_help_describes_every_setting_of_a_callback(
    settings: type[AutomationSettings], kind: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its type and in our words: ``patience`` is in steps, which Lightning's own stopper says otherwise."""
    monkeypatch.setenv("COLUMNS", "2000")  # no line is broken
    path = f"lightning_automations.{settings.automation}"
    text = " ".join(_printed(kind, monkeypatch, capsys, f"--trainer.callbacks.help={path}").split())
    for name, description in setting_descriptions(settings).items():
        assert f".{name} " in text
        assert f"{description} (type: " in text


@EITHER
@EACH
def test_a_printed_configuration_is_read_to_the_same(
    settings: type[AutomationSettings],
    kind: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``--print_config`` holds every setting of a callback, and what was written with its value."""
    path = tmp_path / "config.yml"
    callback = {"class_path": f"lightning_automations.{settings.automation}", "init_args": {"max_adjustments": 3}}
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    first = _printed(kind, monkeypatch, capsys, f"--config={path}", "--print_config")
    [printed] = yaml.safe_load(first)["trainer"]["callbacks"]
    assert set(printed["init_args"]) == set(settings.types())
    assert printed["init_args"]["max_adjustments"] == 3
    path.write_text(first)
    assert _printed(kind, monkeypatch, capsys, f"--config={path}", "--print_config") == first
