"""Run by test_session in two processes: an automation that fails on rank 1 alone, and one whose readings differ."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as pl

from lightning_automations.callbacks.ranks import Across
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader
from tests.callbacks.test_base import Counting


class FailsOnRankOne(Counting):
    """Raises on rank 1 after six steps, in the middle of a period."""

    def after_batch(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any) -> None:
        if trainer.global_rank == 1 and trainer.global_step == 6:
            raise ZeroDivisionError("broken on purpose")


class ReadsItsRank(Counting):
    """Reads its rank, and a number that only rank 1 has."""

    settings_class = type("RankSettings", (Counting.settings_class,), {"automation": "ReadsItsRank"})
    across: ClassVar[Mapping[str, Across]] = {
        "loss": Across.MEAN,
        "high": Across.MAX,
        "low": Across.MIN,
        "own": Across.MAX,
    }
    seen: ClassVar[list[Mapping[str, float]]] = []

    def read(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        rank = float(trainer.global_rank)
        return {"loss": rank, "high": rank, "low": rank, **({"own": 7.0} if rank else {})}

    def decide(self, trainer: pl.Trainer, pl_module: pl.LightningModule, readings: Mapping[str, float]) -> None:
        self.seen.append(readings)


def main(folder: Path) -> None:
    """Train for 16 steps on two ranks and write down what each automation came to."""
    failing, reading = FailsOnRankOne(), ReadsItsRank()
    trainer = make_trainer([failing, reading], max_steps=16, max_epochs=-1, strategy="ddp", devices=2)
    trainer.fit(Regression(), train_loader(), val_loader())
    result = {
        "steps": trainer.global_step,
        "retired": failing.retired,
        "adjustments": [adjustment.step for adjustment in failing.adjustments],
        "seen": reading.seen,
    }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
