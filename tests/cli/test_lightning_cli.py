"""Our callbacks in a LightningCLI of either package, named by their class path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.cli import LightningCLI

from lightning_automations import IntelligentEarlyStopping
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
    assert (stopper.effective_settings.patience, stopper.effective_settings.min_epochs) == (16, 2)
    assert cli.trainer.global_step > 0


def test_a_wrong_name_is_refused_before_training(
    run: Callable[[str], LightningCLI], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the message of LightningCLI, which knows the settings by name and type."""
    with pytest.raises(SystemExit):
        run(CONFIG.replace("max_threshold", "max_treshold"))
    assert "max_treshold" in capsys.readouterr().err
