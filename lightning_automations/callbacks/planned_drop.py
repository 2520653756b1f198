"""Until when a schedule keeps the learning rate up before it lets it fall."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.optim import Optimizer

from lightning_automations.core.settings import RunLength
from lightning_automations.core.stopping_history import PLANNED_DROP

__all__ = ["PlannedDrop"]


class PlannedDrop:
    """The last drop of the learning rate that the first optimizer's scheduler plans within the run.

    A drop is what a rate that stood still between two steps of its scheduler is yet to fall by, if that is more than
    10 %: every milestone of ``MultiStepLR``, the start of the decay in warm-up, flat, decay. A rate that falls all the
    time (cosine, exponential) has none. It is found by a rehearsal: a copy of the scheduler is stepped to the end of
    the run on an optimizer without parameters, once, in 2 to 5 us a step. That needs to know nothing about the
    scheduler's class; nested ones and functions of the user are covered.

    Nothing is known of schedulers that follow a metric, of those that the module steps itself (manual optimization),
    and of runs without an end.

    Args:
        trainer: At its start of training.
        length: Of the run.
        rates: The scheduled rates of the first optimizer's groups.
        known: ``last`` of the run that is resumed: saved just before a drop, it was flat and cannot be seen to be.

    Attributes:
        last: Optimizer steps or epochs, whatever the scheduler counts, at which the last drop has come; None: none.
    """

    def __init__(self, trainer: Trainer, length: RunLength, rates: list[float], *, known: int | None = None) -> None:
        self._by_step = True
        self.last: int | None = None
        configs = trainer.lr_scheduler_configs if trainer.lightning_module.automatic_optimization else []
        for config in configs:
            if config.scheduler.optimizer is trainer.optimizers[0] and not config.reduce_on_plateau:
                self._by_step = config.interval == "step"
                self.last = self._rehearse(trainer, config, length, rates)
                if self.last is None and known is not None and known <= self._now(trainer) + config.frequency:
                    self.last = known

    def is_ahead(self, trainer: Trainer) -> bool:
        """Whether the run has not come to the last drop yet."""
        return self.last is not None and self._now(trainer) < self.last

    def _now(self, trainer: Trainer) -> int:
        """Optimizer steps or epochs, whatever the scheduler counts."""
        return trainer.global_step if self._by_step else trainer.current_epoch

    def _rehearse(self, trainer: Trainer, config: Any, length: RunLength, rates: list[float]) -> int | None:
        total, done = length.steps if self._by_step else length.epochs, self._now(trainer)
        if total is None:
            return None
        # The scheduler's step after the last batch or epoch comes too late for any use.
        steps = max(total - done - 1, 0) // config.frequency
        drop = _end_of_last_flat([rates[0], *_path(trainer, config.scheduler, rates, steps=steps)])
        return None if drop is None else done + drop * int(config.frequency)


def _path(trainer: Trainer, scheduler: Any, rates: list[float], *, steps: int) -> list[float]:
    """The first group's rate after each of the next steps of a scheduler, as far as it can be stepped."""
    stand_in = _without_parameters(scheduler.optimizer, rates)
    # A scheduler's function may be a method of one of these, which are not to be copied.
    kept = (trainer, trainer.lightning_module, getattr(trainer, "datamodule", None))
    memo = {id(scheduler.optimizer): stand_in, **{id(item): item for item in kept}}
    path: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rehearsing = copy.deepcopy(scheduler, memo)
            for _ in range(steps):
                rehearsing.step()
                path.append(float(stand_in.param_groups[0]["lr"]))
        except Exception:  # noqa: BLE001 - functions of the user may raise anything
            return path  # the scheduler will refuse in its own time, or not
    return path


def _without_parameters(optimizer: Optimizer, rates: list[float]) -> Optimizer:
    """An optimizer with the same groups and numbers, and the scheduled rates."""
    stand_in = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    stand_in.param_groups = [
        {**group, "params": [], "lr": rate} for group, rate in zip(optimizer.param_groups, rates, strict=True)
    ]
    return stand_in


def _end_of_last_flat(path: list[float]) -> int | None:
    """Index of the first rate after the last flat stretch from which the path still falls by more than 10 %."""
    lowest = path[-1]
    for index in range(len(path) - 1, 0, -1):
        if path[index] == path[index - 1] and lowest < PLANNED_DROP * path[index]:
            return index + 1
        lowest = min(lowest, path[index])
    return None
