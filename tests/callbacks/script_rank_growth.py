"""Run by test_batch_size_growth_ranks in two processes: sizes are decided on together; each rank writes its story."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from lightning_automations import DynamicBatchSizeOptimizer
from tests.callbacks.helpers import make_trainer
from tests.callbacks.memory_helpers import MadeUpMemory
from tests.callbacks.test_batch_size_growth import (
    AT_START,
    CHANGES,
    FEW_LOADERS,
    LOADERS,
    SHRINKS,
    VALIDATION,
    Counting,
    Numbers,
    RunsOut,
    Steps,
    growing,
)

SAMPLES = 96


class RunsOutOnOneRank(RunsOut):
    """Holds three samples from the fourth batch on, on rank 1."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.fails = self.fails and self.global_rank == 1
        return super().training_step(batch, batch_idx)


def story(module: Counting, one: DynamicBatchSizeOptimizer, trainer: pl.Trainer, steps: Steps) -> dict[str, Any]:
    """What a rank has seen and done."""
    return {
        "epochs": module.epochs,
        "validations": module.validations,
        "sizes": module.sizes,
        "totals": module.totals,
        "finals": module.finals,
        "ended": module.ended,
        "of schedule": steps.of_schedule,
        "of optimizer": steps.of_optimizer,
        "rate": trainer.optimizers[0].param_groups[0]["lr"],
        "weights": [parameter.tolist() for parameter in module.parameters()],
        "adjustments": [
            (item.parameter, item.old, item.new, item.step, item.epoch, str(item.reason)) for item in one.adjustments
        ],
        "brain": one.brain.state_dict(),
        "retired": one.retired,
    }


def fit(module: Counting, one: DynamicBatchSizeOptimizer, data: Any, **options: Any) -> dict[str, Any]:
    """Three epochs on two ranks."""
    steps, others, path = Steps(), options.pop("callbacks", []), options.pop("ckpt_path", None)
    defaults = {"max_epochs": 3, "num_sanity_val_steps": 0, "strategy": "ddp", "devices": 2}
    trainer = make_trainer([one, steps, *others], **{**defaults, **options})
    trainer.fit(module, data, VALIDATION, ckpt_path=path)
    return story(module, one, trainer, steps)


def matrix_case(change: str, options: dict[str, Any]) -> dict[str, Any]:
    """One cell of the matrix: a loader with these options grows, or one rank runs out of memory."""
    row = CHANGES[change]
    module = RunsOutOnOneRank(fails=change == SHRINKS)
    data = DataLoader(Numbers(SAMPLES), **{"batch_size": row.batch_size, **options})
    return fit(module, growing(module, **row.settings), data, **row.arguments)


def loaders_of(change: str) -> list[dict[str, Any]]:
    """All, or where another change has shown them all, a few: two processes take their time."""
    return LOADERS if change == AT_START else FEW_LOADERS


def rank() -> int:
    """This process's."""
    return torch.distributed.get_rank()


def one_memory_is_fuller() -> dict[str, Any]:
    """On rank 1 a batch of 8 is above the target; rank 0 alone would grow."""
    module = RunsOut(fails=False)
    one = growing(module)
    per_sample = 0.12 if rank() else 0.01
    one._make_probe = lambda _: MadeUpMemory(lambda size: 0.1 + per_sample * size, module.sizes, before=0.1)
    return fit(module, one, DataLoader(Numbers(SAMPLES), batch_size=8))


def learns_of_the_other() -> dict[str, Any]:
    """Rank 1 runs out of memory at the fourth batch; the next decision is due at the eighth."""
    module = RunsOutOnOneRank(fails=True)
    one = DynamicBatchSizeOptimizer(adjustment_frequency=8)
    one._make_probe = lambda _: None
    return fit(module, one, DataLoader(Numbers(SAMPLES), batch_size=8))


def loaders_differ() -> dict[str, Any]:
    """As many batches on each rank, but of fewer samples on rank 1: grown, one would end its epoch before the other."""
    module = RunsOut(fails=False)
    samples = range(48) if rank() == 0 else range(48, 92)
    data = DataLoader(Subset(Numbers(SAMPLES), samples), batch_size=8)
    return fit(module, growing(module), data, use_distributed_sampler=False)


class FailsAtTheEpochsStart(DynamicBatchSizeOptimizer):
    """On rank 1 the loader cannot be read at the start of the second epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1 and trainer.global_rank == 1:
            self._guarded(trainer, self.breaks)
        super().on_train_epoch_start(trainer, pl_module)

    def breaks(self) -> None:
        raise ZeroDivisionError("broken on purpose")


def one_rank_fails() -> dict[str, Any]:
    """Both retire at the start of the epoch in which rank 1 has failed, and none grows."""
    module = RunsOut(fails=False)
    one = FailsAtTheEpochsStart(adjustment_frequency=1, effective_batch="grow", on_error="fallback")
    one._make_probe = growing(module)._make_probe
    return fit(module, one, DataLoader(Numbers(SAMPLES), batch_size=8))


class SavesEachEpoch(Callback):
    """Saves at the end of an epoch, in one file that both ranks find."""

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.save_checkpoint(f"epoch={trainer.current_epoch}.ckpt")


def resumes() -> dict[str, Any]:
    """Three epochs at once, and the last of them again from the checkpoint of the second."""
    whole, again = RunsOut(fails=False), RunsOut(fails=False)
    data = DataLoader(Numbers(SAMPLES), batch_size=8)
    uninterrupted = fit(whole, growing(whole), data, callbacks=[SavesEachEpoch()])
    resumed = fit(again, growing(again), data, ckpt_path="epoch=1.ckpt")
    return {"uninterrupted": uninterrupted, "resumed": resumed}


CASES = {
    case.__name__: case for case in (one_memory_is_fuller, learns_of_the_other, loaders_differ, one_rank_fails, resumes)
}


def main(folder: Path, names: Sequence[str]) -> None:
    """The cases of these names, one after the other; the name of a change stands for its part of the matrix."""
    logging.getLogger("lightning_automations").addHandler(logging.FileHandler(folder / "told.txt"))
    module = RunsOut(fails=False)
    fit(module, growing(module), DataLoader(Numbers(2), batch_size=1), max_epochs=1)  # the processes meet
    result = {
        name: CASES[name]() if name in CASES else [matrix_case(name, options) for options in loaders_of(name)]
        for name in names
    }
    (folder / f"rank{rank()}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
