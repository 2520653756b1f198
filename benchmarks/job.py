"""One Lightning module for all tasks, and the callback that watches a run without touching it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm

from benchmarks.methods.method import Method, RunSetup

__all__ = ["Job", "Observer"]

CLIPPED_BELOW = 1 - 1e-4
"""A norm below this share of what it was counts as clipped; float32 rounds less than that."""
LOST_VALIDATIONS = 5


class Job(LightningModule):
    """A network of a task, trained by a method under a scenario: ordinary Lightning code.

    Args:
        setup: The run, with the rate that the scenario gave it.
        method: Gives optimizer and scheduler.
        loss_factors: What the loss of each step is multiplied with.
    """

    def __init__(self, setup: RunSetup, method: Method, loss_factors: Sequence[float]) -> None:
        super().__init__()
        self.network = setup.task.network()
        self.setup_of_run = setup
        self.method = method
        self.loss_factors = loss_factors
        self.samples = 0

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.network(inputs)
        return outputs

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        self.samples += len(inputs)
        # A run whose batch has grown or whose steps are counted otherwise still meets the faults of its plan.
        factor = self.loss_factors[min(self.global_step, len(self.loss_factors) - 1)]
        return self.setup_of_run.task.loss(self(inputs), targets) * factor

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        outputs, task = self(inputs), self.setup_of_run.task
        self.log("val/loss", task.loss(outputs, targets), batch_size=len(inputs))
        if task.logged_score is not None:
            self.log(task.logged_score, task.score(outputs, targets), batch_size=len(inputs))

    def configure_optimizers(self) -> Any:
        optimizer = self.method.optimizer(self.parameters(), self.setup_of_run)
        schedule = self.method.schedule(optimizer, self.setup_of_run)
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": dict(schedule)}


class Observer(Callback):
    """Counts clipped and skipped steps, and ends the run when its samples are used up or its weights are lost.

    Weights count as lost when they were not finite at five validations in a row, a quarter of the run: time enough for
    a method that puts them back. The gradient's norm is taken as backward leaves it, and again when the step is over.

    Args:
        sample_budget: Training samples that the run may see, those of retries included.
    """

    def __init__(self, *, sample_budget: int) -> None:
        self._budget = sample_budget
        self._before: list[Tensor] = []
        self._after: list[Tensor | None] = []
        self._norm = torch.tensor(0.0)
        self._lost_validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        lost = not get_total_norm(list(pl_module.parameters())).isfinite()
        self._lost_validations = self._lost_validations + 1 if lost else 0
        if self._lost_validations == LOST_VALIDATIONS:
            trainer.should_stop = True

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._norm = get_total_norm(_gradients(pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        gradients = _gradients(pl_module)
        self._before.append(self._norm)
        self._after.append(get_total_norm(gradients) if gradients else None)
        if isinstance(pl_module, Job) and pl_module.samples + len(batch[0]) > self._budget:
            trainer.should_stop = True

    @property
    def skipped_steps(self) -> int:
        """Steps that reached the optimizer without any gradient."""
        return sum(after is None for after in self._after)

    @property
    def clipped_steps(self) -> int:
        """Steps that were not skipped and whose finite norm became smaller."""
        pairs = [(before, after) for before, after in zip(self._before, self._after, strict=True) if after is not None]
        if not pairs:
            return 0
        before, after = (torch.stack(norms) for norms in zip(*pairs, strict=True))
        return int((before.isfinite() & (after < before * CLIPPED_BELOW)).sum())


def _gradients(module: LightningModule) -> list[Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
