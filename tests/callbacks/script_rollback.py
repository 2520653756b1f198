"""Two ranks on different data; the weights of one are struck, and both write down what came of it."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from lightning_automations import IntelligentLearningRateScheduler
from tests.callbacks.helpers import Regression, make_trainer, train_loader


class StrikesRankOne(Callback):
    """Rank 1 alone gets NaN weights after step 100; the next gradients carry them to rank 0."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 100 and trainer.global_rank == 1:
            with torch.no_grad():
                pl_module.layer.weight.fill_(math.nan)


def main() -> None:
    """Train for 200 steps on two ranks."""
    automation, module = IntelligentLearningRateScheduler(), Regression()
    options = {"max_steps": 200, "max_epochs": -1, "limit_val_batches": 0}
    trainer = make_trainer([StrikesRankOne(), automation], strategy="ddp", devices=2, **options)
    trainer.fit(module, train_loader())
    result = {
        "adjustments": [item.as_dict() for item in automation.adjustments],
        "weights": module.layer.weight.flatten().tolist(),
    }
    Path(sys.argv[1], f"rank{trainer.global_rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
