"""What a snapshot of a Lightning run covers."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.lightning_internals import averaged_models
from lightning_automations.probes.snapshot import SnapshotParts

__all__ = ["run_parts"]


def run_parts(trainer: Trainer, pl_module: LightningModule) -> SnapshotParts:
    """The module, the averages that Lightning keeps of it, the optimizers, and the scaler of mixed precision.

    Asked anew before every ``take`` and ``restore``: callbacks make and replace their averages during a fit. Not during
    a validation: ``WeightAveraging`` then has the average in the module's place.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return SnapshotParts(
        modules=[pl_module, *averaged_models(trainer)],
        optimizers=list(trainer.optimizers),
        scalers=[] if scaler is None else [scaler],
    )
