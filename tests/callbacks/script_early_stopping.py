"""Run by test_early_stopping_ranks in two processes: metrics that differ, and one that only rank 0 logs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from tests.callbacks.curves import stopper
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader, weights


class Differs(Regression):
    """Better and better on rank 0, worse and worse on rank 1; the mean stays the same."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        sign = -1 if self.global_rank == 0 else 1
        self.log("val/loss", 1.0 + sign * 0.125 * self.current_epoch, sync_dist=False)


class OnRankZero(Regression):
    """Logs on rank 0 alone; best in the second epoch."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.global_rank == 0:
            self.log("val/loss", 1.0 if self.current_epoch == 0 else 0.5, rank_zero_only=True)


class NanOnRankOne(Regression):
    """NaN on rank 1 from the second epoch on."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        bad = self.global_rank == 1 and self.current_epoch > 0
        self.log("val/loss", float("nan") if bad else 1.0 / (1 + self.current_epoch), sync_dist=False)


def main(folder: Path) -> None:
    """Train each module on two ranks and write down what its stopper came to."""
    results = {}
    for kind in (Differs, OnRankZero, NanOnRankOne):
        automation, module = stopper(patience=24, restore_best=True), kind(0.001)
        trainer = make_trainer([automation], max_epochs=8, strategy="ddp", devices=2)
        trainer.fit(module, train_loader(), val_loader())
        results[kind.__name__] = {
            "steps": trainer.global_step,
            "adjustments": [adjustment.as_dict() for adjustment in automation.adjustments],
            "state": automation.brain.state_dict(),
            "weights": float(torch.cat([value.flatten() for value in weights(module)]).sum()),
        }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
