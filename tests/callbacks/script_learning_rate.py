"""Two ranks with different losses; each writes down what its learning-rate automation did."""

import json
import sys
from pathlib import Path
from typing import Any

from tests.callbacks.helpers import make_trainer, train_loader, val_loader
from tests.callbacks.told import Told, scheduler


class OneRankTold(Told):
    """Rank 1 is told another loss than rank 0; only their mean diverges, and from step 212 on only rank 1 sees NaN."""

    def told(self, step: int) -> float:
        if self.global_rank == 0:
            return 1.0
        if step >= 212:
            return float("nan")
        return 1.0 if step < 60 else 1.5


def main() -> None:
    """Train for 220 steps on two ranks."""
    automation = scheduler()
    options = {"max_steps": 220, "max_epochs": -1, "limit_val_batches": 0}
    trainer = make_trainer([automation], strategy="ddp", devices=2, **options)
    trainer.fit(OneRankTold(), train_loader(), val_loader())
    group: dict[str, Any] = trainer.optimizers[0].param_groups[0]
    result = {"adjustments": [item.as_dict() for item in automation.adjustments], "rate": group["lr"]}
    Path(sys.argv[1], f"rank{trainer.global_rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
