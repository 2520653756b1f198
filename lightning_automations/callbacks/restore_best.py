"""Puts the best weights back when training ends, whoever ended it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.best_weights import BestWeights, averages_weights, size_in_megabytes
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings

__all__ = ["RestoresBest"]

WEIGHTS_KEY = "lightning_automations.best_weights"


class RestoresBest(AutomationCallback):
    """The part of the early stopper that follows ``restore_best``. Not used by itself.

    Attributes:
        best_weights: The weights kept so far.
        weights_put_back: Whether they were put back at the end of the last fit.
    """

    settings_class = EarlyStoppingSettings
    settings: EarlyStoppingSettings

    _saved_weights: Mapping[str, Any] | None
    """What a checkpoint held, between its loading and the start of training."""

    @property
    def judges(self) -> bool:
        """Whether values are judged."""
        return self.active

    @property
    def keeps_weights(self) -> bool:
        """Whether weights are kept at all."""
        return self.settings.restore_best and not self.settings.dry_run

    def forget_weights(self) -> None:
        """Start without any."""
        self.best_weights = BestWeights()
        self.weights_put_back = False

    def begin_keeping_weights(self, trainer: Trainer, pl_module: LightningModule, *, resumed: bool) -> None:
        """Training starts; the weights of the checkpoint are taken up where it goes on from one.

        Args:
            trainer: The trainer.
            pl_module: The module.
            resumed: Whether the saved state that the weights belong to is still valid.
        """
        self.weights_put_back = self._failed_run = False
        saved, self._saved_weights = self._saved_weights, None
        if not self.keeps_weights or not self.judges:
            return
        if saved is not None and resumed:
            self.best_weights.load(saved)
        size = size_in_megabytes(pl_module)
        self.note(trainer, f"restore_best keeps 2 x {size:.1f} MB on the host and adds {size:.1f} MB to a checkpoint")

    def keep_weights_if_best(
        self, trainer: Trainer, pl_module: LightningModule, metric: float, *, higher_is_better: bool
    ) -> None:
        """Keep the weights that were just validated if no better ones are held.

        After a rollback the decisions start from an older best; the weights stay those of the best value ever judged.
        """
        held = self.best_weights.value
        if self.keeps_weights and (held is None or (metric > held if higher_is_better else metric < held)):
            self.best_weights.look(pl_module, step=trainer.global_step)
            self.best_weights.keep(metric)

    # Lightning's hooks -----------------------------------------------------------------------------------------------

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        first = batch_idx == 0 and dataloader_idx == 0
        if first and self.judges and self.keeps_weights:
            self._guarded(trainer, self._look, trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.best_weights.step is not None:
            checkpoint[WEIGHTS_KEY] = self.best_weights.as_dict()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved_weights = checkpoint.get(WEIGHTS_KEY)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # After any other error than Ctrl-C, what is saved now is for a resume: it needs the weights of now.
        self._failed_run = not isinstance(exception, KeyboardInterrupt)
        super().on_exception(trainer, pl_module, exception)

    def end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.keeps_weights and self.best_weights.step is not None and not self._failed_run:
            self.best_weights.put_back(pl_module)
            self.weights_put_back = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        # A callback behind us in the list may have overwritten the weights with its average in on_train_end.
        if stage == "fit" and self.weights_put_back and averages_weights(trainer):
            self.best_weights.put_back(pl_module)

    def _prepare(self, settings: Mapping[str, Any]) -> None:
        self._saved_weights = None
        super()._prepare(settings)

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.best_weights.look(pl_module, step=trainer.global_step)
