"""A run with all automations that kills itself after a checkpoint, or goes on from it; prints what was decided."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from tests.callbacks.helpers import Regression, SaveAt, make_trainer, train_loader, val_loader
from tests.registry import EPOCHS, ROWS


class Killed(Callback):
    """Nothing is cleaned up."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, kill_at: int, resume: bool) -> None:
    """Train, with a checkpoint after 37 steps."""
    save = SaveAt(37, folder)
    automations = [row.make(journal=str(folder / "journal.jsonl")) for row in ROWS]
    callbacks = [*automations, save, *([Killed(kill_at)] if kill_at else [])]
    trainer = make_trainer(callbacks, max_epochs=EPOCHS)
    trainer.fit(Regression(), train_loader(), val_loader(), ckpt_path=save.path if resume else None)
    made = [item for automation in automations for item in automation.adjustments]
    story = [(item.automation, item.step, item.old, item.new, item.reason) for item in made]
    sys.stdout.write(json.dumps([trainer.global_step, story]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1")
