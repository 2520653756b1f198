"""A tiny task, and real runs of a method on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.job import Job
from benchmarks.methods.method import Method, RunSetup
from benchmarks.tasks.task import Splits, Task

STEPS, VALIDATION_INTERVAL = 20, 5
STRUCK = 11
"""The step at which something goes wrong."""
OPTIMIZERS = ("adamw", "sgd")


def _data(samples: int) -> TensorDataset:
    inputs = torch.randn(samples, 4, generator=torch.Generator().manual_seed(samples))
    return TensorDataset(inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]]))


def _negative_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return -nn.functional.l1_loss(outputs, targets)


# Two batches an epoch: shorter than the interval between validations, as on the small tasks of the scoreboard.
TASK = Task(
    name="line",
    summary="a line",
    splits=lambda: Splits(_data(16), _data(8), _data(9)),
    network=lambda: nn.Linear(4, 1),
    loss=nn.functional.mse_loss,
    score=_negative_error,
    score_name="error",
    margin=0.1,
    steps=STEPS,
    batch_size=8,
    optimizers=OPTIMIZERS,
)
SETUP = RunSetup(
    task=TASK, optimizer="adamw", rate=0.01, cosine_rate=0.03, steps=STEPS, validation_interval=VALIDATION_INTERVAL
)


def fitted(
    method: Method, setup: RunSetup, factors: Mapping[int, float], *, also: Sequence[pl.Callback] = ()
) -> dict[str, Tensor]:
    """The weights after a run whose losses are multiplied at some steps."""
    pl.seed_everything(0, verbose=False)
    job = Job(setup, method, [factors.get(step, 1.0) for step in range(STEPS)])
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        max_epochs=-1,
        val_check_interval=VALIDATION_INTERVAL,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[*method.callbacks(setup), *also],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **method.trainer,
    )
    splits = TASK.splits()
    trainer.fit(job, DataLoader(splits.training, batch_size=TASK.batch_size), DataLoader(splits.validation, 8))
    assert trainer.global_step == STEPS
    return job.state_dict()


def same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two runs ended with the same weights, bit by bit."""
    return all(torch.equal(one[name], other[name]) for name in one)


class StepLog(pl.Callback):
    """Keeps, for each step, weights and optimizer state before and after it, the gradient's norm and the rate."""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.norms: list[float | None] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.before.append(_state(trainer))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.after.append(_state(trainer))
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self.norms.append(get_total_norm(gradients).item() if gradients else None)


def _state(trainer: pl.Trainer) -> Any:
    return copy.deepcopy((trainer.lightning_module.state_dict(), trainer.optimizers[0].state_dict()))


def flat(state: Any) -> list[Any]:
    """All tensors and numbers of a nested state, comparable by ==."""
    if isinstance(state, Tensor):
        return state.flatten().tolist()
    if isinstance(state, Mapping):
        return [leaf for name in state for leaf in flat(state[name])]
    if isinstance(state, list | tuple):
        return [leaf for value in state for leaf in flat(value)]
    return [state]
