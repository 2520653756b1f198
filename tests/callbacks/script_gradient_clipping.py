"""Run by test_gradient_clipping in two processes: gradients that differ before they are reduced, and one NaN on one."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_automations import AdaptiveGradientClipping
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader, weights


class FaultOnRankOne(Regression):
    """Rank 1 has another loss than rank 0, and NaN once."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        fault = math.nan if self.global_rank == 1 and self.trainer.global_step == 9 else 1.0
        return self.loss(batch) * (1 + self.global_rank) * fault


def main(folder: Path) -> None:
    """Train for 24 steps on two ranks and write down where each ended."""
    subject = AdaptiveGradientClipping(monitoring_frequency=4)
    module = FaultOnRankOne()
    trainer = make_trainer([subject], max_steps=24, max_epochs=-1, strategy="ddp", devices=2)
    trainer.fit(module, train_loader(), val_loader())
    result = {
        "adjustments": [adjustment.as_dict() for adjustment in subject.adjustments],
        "values": dict(subject.values()),
        "weights": [weight.tolist() for weight in weights(module)],
        "finite": all(bool(torch.isfinite(weight).all()) for weight in weights(module)),
    }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
