"""Every example configuration in a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from lightning_automations import build_callbacks
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader

EXAMPLES = sorted((Path(__file__).parents[1] / "example_configs").glob("*.yml"))


class WithPsnr(Regression):
    """Logs the metrics that the examples name."""

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("val/psnr", -10 * self.loss(batch).log10())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_trains(example: Path, tmp_path: Path) -> None:
    """All automations of the file take part to the end: none has failed or left."""
    callbacks = build_callbacks(example)
    trainer = make_trainer(callbacks, max_epochs=2, default_root_dir=tmp_path)
    trainer.fit(WithPsnr(), train_loader(), val_loader())
    assert trainer.global_step == 32
    assert [callback.retired for callback in callbacks] == [False] * len(callbacks)
