"""All automations on two ranks with different data and batches of different size; each rank writes down its story."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from lightning_automations import DynamicBatchSizeOptimizer, DynamicLossScheduling
from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.core.decision import Reason
from tests.callbacks.helpers import ResumableLoader, make_trainer, regression_data, val_loader, weights
from tests.registry import EPOCHS, EVERY_ROW, Decayed, TwoTerms

OF_ONE_RANK = (Reason.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY_ELSEWHERE)
"""What one rank alone meets and the others learn of later; all else they decide together."""


class Unequal(TwoTerms, Decayed):
    """Rank 0 trains on 64 samples in batches of four, rank 1 on 48 others in batches of three."""

    def train_dataloader(self) -> Any:
        rank = self.global_rank
        samples = range(64) if rank == 0 else range(64, 112)
        return ResumableLoader(Subset(regression_data(112), samples), batch_size=4 - rank)

    def val_dataloader(self) -> Any:
        return val_loader()


class UnequalHungry(Unequal):
    """Rank 0 runs out of memory for its batches of four; those of rank 1 fit."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if len(batch[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().training_step(batch, batch_idx)


def fit(*automations: AutomationCallback, kind: type[Unequal] = Unequal) -> tuple[int, list[list[float]]]:
    """Steps and weights of a whole run on two ranks."""
    module = kind()
    trainer = make_trainer(automations, strategy="ddp", devices=2, max_epochs=3 * EPOCHS, use_distributed_sampler=False)
    trainer.fit(module)
    return trainer.global_step, [parameter.tolist() for parameter in weights(module)]


def _kind(automation: AutomationCallback) -> type[Unequal]:
    return UnequalHungry if isinstance(automation, DynamicBatchSizeOptimizer) else Unequal


def main(folder: Path) -> None:
    """Train on two ranks with each automation, with all of them, with all of them dry, and without any."""
    alone, together = [row.make() for row in EVERY_ROW], [row.make() for row in EVERY_ROW]
    settings = {"baseline_iterations": 16, "adaptation_frequency": 8, "shared_parameters": "layer"}
    gradnorm = DynamicLossScheduling(method="gradnorm", **settings)
    alone.append(gradnorm)
    result = {
        "runs": [fit(automation, kind=_kind(automation)) for automation in alone],
        "run of all": fit(*together, kind=UnequalHungry),
        "plain": fit(),
        "dry": fit(*(row.make(dry_run=True) for row in EVERY_ROW)),
        "dry gradnorm": fit(DynamicLossScheduling(method="gradnorm", dry_run=True, **settings)),
        "acted by gradnorm": len(gradnorm.adjustments),
        "acted": [automation.name for automation in alone if automation.adjustments],
        "adjustments": [
            item.as_dict() for one in (*alone, *together) for item in one.adjustments if item.reason not in OF_ONE_RANK
        ],
        "retired": [automation.name for automation in (*alone, *together) if automation.retired],
    }
    (folder / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
