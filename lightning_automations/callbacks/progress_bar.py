"""Values of automations in Lightning's progress bar, whichever it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

__all__ = ["ProgressBarValues", "retell_total"]

_SHOWN: Mapping[str, Mapping[str, str]] = {
    "intelligent_learning_rate_scheduler": {"factor": "lr_factor"},
    "dynamic_batch_size_optimizer": {"batch_size": "batch", "micro_batch_size": "piece"},
    "adaptive_gradient_clipping": {"threshold": "clip", "skipped_steps": "skipped"},
    "early_stopping": {"wait_steps": "waited"},
}
"""Of each automation the few values that fit, and how they are called there; of others all that they log."""


def retell_total(trainer: Trainer) -> None:
    """Let Lightning's bar show the number of batches of the epoch that runs, which has changed."""
    bar: Any = trainer.progress_bar_callback
    if hasattr(bar, "train_progress_bar_id"):  # rich
        if bar.train_progress_bar_id is not None:
            bar.progress.update(bar.train_progress_bar_id, total=trainer.num_training_batches)
    elif hasattr(bar, "train_progress_bar"):  # tqdm
        bar.train_progress_bar.total = trainer.num_training_batches


class ProgressBarValues:
    """Adds to what the bar shows through ``get_metrics``, the method that Lightning names for that.

    A call of ``self.log(prog_bar=True)`` would cost 0.5 to 1 ms and stand in the epoch's results as well.

    Args:
        trainer: The trainer, at its start of training.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._bar: Any = trainer.progress_bar_callback
        self._attached = False
        self._values: dict[str, float] = {}

    def show(self, automation: str, values: Mapping[str, float]) -> None:
        """Show these values until the next ones come.

        Args:
            automation: Its name among logged values.
            values: All that it logs; those that are not known yet are left out.
        """
        if self._bar is None:
            return
        names = _SHOWN.get(automation) or {name: name for name in values}
        known = {label: values[name] for name, label in names.items() if math.isfinite(values.get(name, math.nan))}
        self._values.update(known)
        self._attach()

    def detach(self) -> None:
        """Give the bar back as it was."""
        if self._attached:
            vars(self._bar).pop("get_metrics", None)
            self._attached = False

    def _attach(self) -> None:
        # A bar whose method somebody has replaced on the object itself is left to them.
        if self._attached or "get_metrics" in vars(self._bar):
            return
        original = self._bar.get_metrics

        def get_metrics(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
            return {**original(trainer, pl_module), **self._values}

        self._bar.get_metrics = get_metrics
        self._attached = True
