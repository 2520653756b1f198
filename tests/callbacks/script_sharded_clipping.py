"""Run by test_gradient_clipping: FSDP2 in two processes, beside one process that holds all parameters."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard

from lightning_automations import AdaptiveGradientClipping
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader

STEPS = 24


class Sharded(Regression):
    """Two layers; a loss that is far too large once and NaN once. Sharded where there is a mesh."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))  # type: ignore[assignment]

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            for part in (self.layer[0], self.layer[2], self):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch) * {11: 1000.0, 17: math.nan}.get(self.trainer.global_step, 1.0)


def main(folder: Path, skip: str) -> None:
    """Train for some steps, sharded and then whole, and write down where each ended."""
    train(folder, skip, strategy=ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1), devices=2)
    torch.distributed.destroy_process_group()
    train(folder, skip)


def train(folder: Path, skip: str, **options: Any) -> None:
    """One run; every process writes a file."""
    subject = AdaptiveGradientClipping(monitoring_frequency=4, skip_nonfinite=skip)
    module = Sharded()
    trainer = make_trainer([subject], max_steps=STEPS, max_epochs=-1, use_distributed_sampler=False, **options)
    trainer.fit(module, train_loader(), val_loader())
    weights = [
        getattr(weight, "full_tensor", lambda weight=weight: weight)().tolist() for weight in module.parameters()
    ]
    result = {
        "thresholds": [adjustment.new for adjustment in subject.adjustments],
        "skipped": subject.values()["skipped_steps"],
        "weights": [number for weight in weights for number in torch.tensor(weight).flatten().tolist()],
    }
    name = f"rank{trainer.global_rank}" if options else "whole"
    (folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
