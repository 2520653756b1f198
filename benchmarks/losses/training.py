"""Ordinary Lightning code around a job, and the run itself with any callbacks."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.losses.jobs import LossJob
from benchmarks.losses.judging import LossOutcome
from lightning_automations import WeightedLosses

__all__ = ["LossModule", "run"]


class LossModule(WeightedLosses, LightningModule):
    """A loss with the terms and the weights of a job."""

    def __init__(self, job: LossJob) -> None:
        super().__init__()
        self.job = job
        self.network = job.task.network()
        self.loss_weights = job.weights

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> dict[str, Any]:
        inputs, targets = batch
        return self.weighted(**self.job.task.terms(self.network(inputs), targets))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=self.job.task.rate)


def run(job: LossJob, *, method: str, callbacks: Sequence[Callback] = ()) -> LossOutcome:
    """Train with these callbacks and judge on the test data. The caller's random state is left alone.

    Args:
        job: What to train.
        method: What the callbacks are called in tables.
        callbacks: Made for this run only; none: the weights stay as the user wrote them.
    """
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(job.seed)
        module = LossModule(job)
        trainer = Trainer(
            max_steps=job.task.steps,
            accelerator="cpu",
            default_root_dir=folder,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, _loader(job))
    return LossOutcome(
        task=job.task.name,
        method=method,
        term=job.term,
        factor=job.factor,
        seed=job.seed,
        steps=trainer.global_step,
        scores=_scores(module),
        weights={name: float(weight) for name, weight in module.loss_weights.items()},
    )


def _loader(job: LossJob) -> DataLoader[tuple[Tensor, ...]]:
    order = torch.Generator().manual_seed(job.seed)
    return DataLoader(
        job.task.splits().training, batch_size=job.task.batch_size, shuffle=True, drop_last=True, generator=order
    )


@torch.no_grad()
def _scores(module: LossModule) -> dict[str, float | None]:
    inputs, targets = module.job.task.splits().test.tensors
    scores = module.job.task.scores(module.network.eval()(inputs), targets)
    values = {name: score.item() for name, score in scores.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
