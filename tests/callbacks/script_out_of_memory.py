"""Trains a convolutional network with batches of 64, with or without a limit of memory that holds 8 of them.

Arguments: ``unlimited``, ``plain`` or ``automated``; the folder for logs. Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_automations import DynamicBatchSizeOptimizer

SIDE = 64
LIMIT_BYTES = 230 << 20
"""Room above what the process holds before training. Measured: 8 samples need 56 MiB, 16 need 108, 32 need 208, and 64
more than 400."""


class Denoiser(pl.LightningModule):
    """Many activations, little arithmetic, no layer that couples the samples."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        inner = [layer for _ in range(7) for layer in (nn.Conv2d(16, 16, 1), nn.ReLU())]
        self.layers = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), *inner, nn.Conv2d(16, 1, 1))
        self.losses: list[float] = []
        self.samples: list[list[float]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        noisy, clean = batch
        loss = nn.functional.mse_loss(self.layers(noisy), clean)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_epoch_start(self) -> None:
        self.samples.append([])

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.samples[-1] += [float(image.sum()) for image in batch[0]]

    def on_train_epoch_end(self) -> None:
        self.losses.append(float(self.trainer.callback_metrics["train/loss_epoch"]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def data(samples: int = 96) -> TensorDataset:
    """Images and the same with noise; 96 samples make one batch of 64 and one of 32."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(samples, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return TensorDataset(clean + 0.2 * torch.randn(clean.shape, generator=generator, dtype=torch.float64), clean)


def limit_memory() -> None:
    """Let this process reserve only so much more than it has now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    reserved = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (reserved + LIMIT_BYTES, resource.RLIM_INFINITY))


def main(mode: str, folder: str) -> None:
    """Train and print the weights and what was logged."""
    torch.set_num_threads(1)
    module, loader = Denoiser().double(), DataLoader(data(), batch_size=64)
    # Before the limit is set, so that what the libraries need for themselves is inside it.
    module.layers(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)).mean().backward()
    module.zero_grad()
    callbacks = [DynamicBatchSizeOptimizer()] if mode == "automated" else []
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        logger=CSVLogger(folder, name=None, version=mode),
        log_every_n_steps=1,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if mode != "unlimited":
        limit_memory()
    trainer.fit(module, loader)
    weights = [value for parameter in module.parameters() for value in parameter.flatten().tolist()]
    sys.stdout.write(
        json.dumps(
            {"weights": weights, "losses": module.losses, "samples": module.samples, "steps": trainer.global_step}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
