"""What a snapshot of a Lightning run covers."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision

from lightning_automations.callbacks.run_parts import run_parts
from lightning_automations.probes.snapshot import Snapshot
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader, weights
from tests.requirements import has_weight_averaging


class NanStep(Callback):
    """Takes a snapshot, spoils the weights for one step, and goes back."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.average: list[torch.Tensor] = []
        self.spoilt = False

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        parts = run_parts(trainer, pl_module)
        if trainer.global_step == 4:
            self.snapshot.take(parts, step=4)
            self.average = weights(parts.modules[1])
            with torch.no_grad():
                pl_module.layer.weight.fill_(float("nan"))
        elif trainer.global_step == 5:
            self.spoilt = bool(weights(parts.modules[1])[0].isnan().any())
            self.snapshot.restore(parts)
            assert all(map(torch.equal, weights(parts.modules[1]), self.average))


@has_weight_averaging
def test_an_average_that_took_in_a_nan_goes_back() -> None:
    """One such step leaves an average not finite for ever; the restored one trains on."""
    from lightning.pytorch.callbacks import EMAWeightAveraging

    spoiler, module = NanStep(), Regression()
    averaging = EMAWeightAveraging(decay=0.9)
    make_trainer([averaging, spoiler], max_steps=8).fit(module, train_loader(), val_loader())
    assert spoiler.spoilt
    assert all(bool(tensor.isfinite().all()) for tensor in weights(module))


def test_module_and_optimizers_are_the_parts_of_a_plain_run() -> None:
    """No average and no scaler are made up."""
    module, trainer = Regression(), make_trainer(max_steps=1)
    trainer.fit(module, train_loader(), val_loader())
    parts = run_parts(trainer, module)
    assert list(parts.modules) == [module]
    assert list(parts.optimizers) == trainer.optimizers
    assert len(parts.optimizers) == 1
    assert list(parts.scalers) == []


def test_the_scaler_of_mixed_precision_is_a_part() -> None:
    """Its scale falls with every overflow of a diverged run."""
    scaler = torch.amp.GradScaler("cpu")
    module = Regression()
    trainer = make_trainer(plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert list(run_parts(trainer, module).scalers) == [scaler]
