"""Small real runs for tests: a module with a loss that falls, its data, a quiet trainer, and a resumable loader."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

FEATURES = 4


@atexit.register
def _leave_process_group() -> None:
    """A rank that ends while threads of its group are at work may be aborted ("terminate called without ...")."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Regression(pl.LightningModule):
    """Linear regression on noisy data, with a training and a validation loss."""

    def __init__(self, rate: float = 0.05, *, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(FEATURES, 1)
        self.rate = rate

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of one batch."""
        inputs, targets = batch
        return nn.functional.mse_loss(self.layer(inputs), targets)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9)


def regression_data(samples: int = 64, *, seed: int = 1) -> TensorDataset:
    """Inputs of shape (samples, 4) and targets of shape (samples, 1) that a linear function nearly explains."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, FEATURES, generator=generator)
    noise = 0.1 * torch.randn(samples, 1, generator=generator)
    return TensorDataset(inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]) + noise)


class ResumableLoader(DataLoader[Any]):
    """A loader without shuffling that Lightning can put back to its place in the middle of an epoch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given = 0
        self._skip = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        skip, self._skip = self._skip, 0
        self._given = skip
        for index, batch in enumerate(super().__iter__()):
            if index >= skip:
                self._given += 1
                yield batch
        self._given = 0

    def state_dict(self) -> dict[str, int]:
        # After the last batch Lightning goes on with the next epoch, which is a whole one.
        return {"given": self._given % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._skip = state["given"]


def train_loader(batch_size: int = 4, samples: int = 64) -> ResumableLoader:
    """Training batches in a fixed order."""
    return ResumableLoader(regression_data(samples), batch_size=batch_size)


def val_loader() -> DataLoader[Any]:
    """One validation batch."""
    return DataLoader(regression_data(32, seed=2), batch_size=32)


def make_trainer(callbacks: Any = (), **options: Any) -> pl.Trainer:
    """A trainer on the CPU that prints and writes nothing unless told to."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=list(callbacks), **{**defaults, **options})


class SaveAt(Callback):
    """Saves a checkpoint at one optimizer step in the middle of a run; belongs last in the list of callbacks.

    A trainer that ends there by ``max_steps`` would not do: Lightning then counts the epoch as complete.
    """

    def __init__(self, step: int, folder: Path) -> None:
        self.step = step
        self.path = str(folder / f"step={step}.ckpt")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not Path(self.path).exists():
            trainer.save_checkpoint(self.path)


class SaveAfterValidation(SaveAt):
    """The same at the end of the validation that follows a step, where ``ModelCheckpoint`` usually saves."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        pass

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        super().on_train_batch_end(trainer)


def weights(module: nn.Module) -> list[Tensor]:
    """Copies of all parameters."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def journal_entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a journal, oldest first."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_script(script: Path, *arguments: str, environment: dict[str, str], timeout: float = 90) -> str:
    """What a Python script prints in a process of its own; its errors are shown when it fails."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
