"""The network of script_out_of_memory on two ranks, first without a limit of memory, then with one on rank 1.

Argument: the folder in which each rank writes down both runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from lightning_automations import DynamicBatchSizeOptimizer
from tests.callbacks.helpers import make_trainer
from tests.callbacks.script_out_of_memory import Denoiser, data, limit_memory

BATCH = 48
"""Samples on each rank, all in one batch; between the 32 that the limit holds and the 64 that it does not."""


class LimitedOnOneRank(Denoiser):
    """Sets the limit where the ranks have met and the libraries have what they need."""

    limited = False

    def on_train_start(self) -> None:
        if self.limited and self.global_rank == 1:
            limit_memory()


def run(*callbacks: Any, limited: bool) -> tuple[dict[str, Any], pl.Trainer]:
    """Two epochs of one batch each."""
    torch.set_num_threads(1)
    module = LimitedOnOneRank().double()
    module.limited = limited
    trainer = make_trainer(callbacks, strategy="ddp", devices=2, max_epochs=2, log_every_n_steps=1)
    trainer.fit(module, DataLoader(data(), batch_size=BATCH))
    weights = [value for parameter in module.parameters() for value in parameter.flatten().tolist()]
    return {"weights": weights, "losses": module.losses, "steps": trainer.global_step}, trainer


def main(folder: Path) -> None:
    """Both runs."""
    unlimited, _ = run(limited=False)
    automation = DynamicBatchSizeOptimizer()
    limited, trainer = run(automation, limited=True)
    limited["adjustments"] = [(item.old, item.new, str(item.reason)) for item in automation.adjustments]
    result = {"unlimited": unlimited, "limited": limited}
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
