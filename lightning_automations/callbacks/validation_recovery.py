"""What the batch-size automation does where a validation batch does not fit memory."""

from __future__ import annotations

import logging

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.survival import own_split
from lightning_automations.callbacks.validation_pieces import ValidationPieces
from lightning_automations.core.batch_size_settings import BatchSizeSettings
from lightning_automations.core.decision import Adjustment, Reason

__all__ = ["SplitsValidation"]

log = logging.getLogger(__name__)


class SplitsValidation(AutomationCallback):
    """Runs validation batches in pieces after an out-of-memory error, from the sanity check to the end of the fit."""

    settings: BatchSizeSettings
    _validation: ValidationPieces | None = None

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._split_validation(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._split_validation(trainer, pl_module)
        super().on_train_start(trainer, pl_module)

    def _finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._validation is not None:
            self._validation.remove()
            self._validation = None
        super()._finish(trainer, pl_module)

    def _split_validation(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # On several ranks a forward pass more on one of them would leave the others waiting in a collective.
        alone = trainer.world_size == 1 and not trainer.fast_dev_run  # type: ignore[attr-defined]
        wanted = self.settings.enabled and not self.settings.dry_run and self._validation is None
        if not (alone and wanted) or getattr(pl_module, "couples_samples", False):
            return

        def tell(tried: int, size: int) -> None:
            self._tell_of_validation(trainer, tried, size)

        self._validation = ValidationPieces(
            trainer,
            pl_module,
            split=own_split(trainer, pl_module),
            least=self.settings.min_batch_size,
            tell=tell,
        )

    def _tell_of_validation(self, trainer: Trainer, tried: int, size: int) -> None:
        if self._session is None:
            log.info("%s: the sanity check runs in pieces of %d samples: %d ran out of memory", self.name, size, tried)
            return
        adjustment = Adjustment(
            step=trainer.global_step,
            epoch=trainer.current_epoch,
            automation=self.name,
            parameter="validation_micro_batch_size",
            old=tried,
            new=size,
            reason=Reason.OUT_OF_MEMORY,
            evidence={},
        )
        self._guarded(trainer, self.recover, trainer, adjustment, lambda: None)
