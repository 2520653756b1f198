"""AdaptiveGradientClipping: every step's gradients, brought below a threshold that follows their history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.gradient_limits import other_clippings, refuse_optimizers, refuse_sharding
from lightning_automations.core.events import Event, EventKind
from lightning_automations.core.gradient_clipping import GradientClippingBrain, GradientClippingSettings
from lightning_automations.core.statistics import finite
from lightning_automations.probes.deferred import DeferredReadings
from lightning_automations.probes.gradient_norm import (
    clip_to,
    drop_gradients,
    parameters_with_gradients,
    total_norm,
    zero_gradients,
)

__all__ = ["AdaptiveGradientClipping"]

FAR_OUTLIER = 3.0
"""From this many times the threshold on, a norm is brought down to the usual one instead of the threshold."""
LOST_STEPS = 50
"""Successive steps with non-finite gradients after which the run looks lost."""


class AdaptiveGradientClipping(AutomationCallback):
    """Clips the gradients of every optimizer step at a threshold that follows the history of their norms.

    Before each optimizer step, once per real step whatever the accumulation, in automatic and manual optimization, the
    norm of the optimizer's gradients is taken on the device; a norm above the threshold is scaled down to it, and one
    several times above it down to the usual norm. Every ``monitoring_frequency`` steps the norms go to the brain in
    one transfer and the threshold moves. Each optimizer has a threshold and a history of its own.

    A step with NaN or infinity in its gradients is skipped: its gradients are taken away, and torch's optimizers then
    leave weights, momentum, decay and step counters alone. This goes on after the automation has retired. Two cases are
    different. ``torch.optim.LBFGS`` evaluates several times a step and takes a missing gradient for zero: it ends its
    step there. With a ``GradScaler`` (fp16) an overflow is normal and the scaler skips that step: nothing is read,
    nothing is counted.

    The Trainer's ``gradient_clip_val`` and the module's ``configure_gradient_clipping`` act after this callback, on
    gradients that it has clipped.

    Use something else where a process holds only parts of the gradients (FSDP, DeepSpeed, tensor parallelism), and with
    fused optimizers in fp16 with a ``GradScaler``, which unscale inside their step: both are refused.

    Args:
        settings: See ``GradientClippingSettings``.

    Logged as ``automation/adaptive_gradient_clipping/...``, with several optimizers the first three with the
    optimizer's index at the end (``threshold_0``):

    * ``threshold``: the largest norm that holds now.
    * ``norm``: median norm before clipping in the last monitoring period; NaN before the first one has ended.
    * ``clipped_share``: share of that period's steps whose norm was above the threshold, 0 to 1.
    * ``skipped_steps``: steps with non-finite gradients so far. After it has retired, only ``exact`` counts on.

    Raises:
        ConfigError: If a setting is wrong; when training starts, if the strategy shards gradients or an optimizer
            unscales by itself.

    Example:
        >>> clipping = AdaptiveGradientClipping(initial_threshold=0.5, monitoring_frequency=20)
        >>> clipping.settings.max_threshold
        10.0
    """

    settings_class = GradientClippingSettings
    metrics_name = "adaptive_gradient_clipping"

    settings: GradientClippingSettings
    effective_settings: GradientClippingSettings
    brain: GradientClippingBrain

    def make_brain(self, settings: GradientClippingSettings) -> GradientClippingBrain:
        return GradientClippingBrain(settings, written=self._written)

    def period_steps(self) -> int:
        return self.effective_settings.monitoring_frequency

    # Before and during training --------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and self.settings.enabled:
            refuse_sharding(trainer.strategy, automation=self.name)
        super().setup(trainer, pl_module, stage)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._optimizers = len(trainer.optimizers)
        refuse_optimizers(trainer.optimizers, scaled=self._scaled, automation=self.name)
        for message in other_clippings(trainer, pl_module):
            self.note(trainer, message)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.awake and not (self.retired and self.settings.dry_run):
            self._guarded(trainer, self._protect, trainer, optimizer)

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        pending = self._norms_by_optimizer()
        self._forget_norms()
        for index, norms in pending.items():
            if not self._skips_exactly():
                for norm in norms:
                    self._count(trainer, index, finite=math.isfinite(norm))
            self._describe(index, norms)
            adjustment = self.brain.observe(
                step=trainer.global_step,
                epoch=trainer.current_epoch,
                norms=norms,
                optimizer=index,
                parameter=self._named("threshold", index),
            )
            if adjustment is not None and self.active:
                # The threshold is the brain's; a dry run never clips at it.
                self.adjust(trainer, adjustment, lambda: None)
            self._tell_if_bounds_do_not_fit(trainer, index)

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._forget_norms()

    def hear(self, trainer: Trainer, event: Event) -> None:
        if event.kind in (EventKind.ROLLED_BACK, EventKind.LOSS_WEIGHTS_CHANGED, EventKind.BATCH_CHANGED):
            self._forget_norms()
        if event.kind in (EventKind.LOSS_WEIGHTS_CHANGED, EventKind.BATCH_CHANGED):
            self.brain.start_anew()

    def end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that ends inside a period shows that period's norms; they stay, for a fit that goes on.
        if not self.retired:
            for index, norms in self._norms_by_optimizer().items():
                self._describe(index, norms)

    def values(self) -> Mapping[str, float]:
        values: dict[str, float] = {}
        for index in range(self._optimizers):
            norm, share = self._windows.get(index, (math.nan, 0.0))
            values[self._named("threshold", index)] = self._threshold(index)
            values[self._named("norm", index)] = norm
            values[self._named("clipped_share", index)] = share
        return {**values, "skipped_steps": float(self._skipped)}

    def extra_state(self) -> dict[str, Any]:
        return {
            "norms": self._norms.fetch(),
            "owners": list(self._owners),
            "skipped": self._skipped,
            "nonfinite_runs": {str(index): count for index, count in self._nonfinite_runs.items()},
            "told": list(self._told),
            "windows": {str(index): list(window) for index, window in self._windows.items()},
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self._optimizers = 1
        self._scaled = False
        self._norms = DeferredReadings()
        self._owners: list[int] = []
        self._skipped = 0
        self._told: list[str] = []
        self._nonfinite_runs: dict[int, int] = {}
        self._windows: dict[int, tuple[float, float]] = {}
        if state:
            self._norms.restore(state["norms"])
            self._owners = list(state["owners"])
            self._skipped = state["skipped"]
            self._told = list(state["told"])
            self._nonfinite_runs = {int(index): count for index, count in state["nonfinite_runs"].items()}
            self._windows = {int(index): (norm, share) for index, (norm, share) in state["windows"].items()}

    # One optimizer step ----------------------------------------------------------------------------------------------

    def _protect(self, trainer: Trainer, optimizer: Optimizer) -> None:
        parameters = parameters_with_gradients(optimizer)
        if not parameters:
            return
        index = trainer.optimizers.index(optimizer)
        norm = total_norm(parameters)
        if not self.retired:
            self._norms.add(norm)
            self._owners.append(index)
        if self.settings.dry_run:
            return
        if self._skips_exactly():
            finite = bool(torch.isfinite(norm))
            self._count(trainer, index, finite=finite)
            if not finite:
                drop_gradients(parameters)
                return
        elif self.settings.skip_nonfinite == "zero" and not self._scaled:
            bad = ~torch.isfinite(norm)
            zero_gradients(parameters, where=bad)
            norm = norm.masked_fill(bad, 0.0)
        self._clip(parameters, norm, index)

    def _clip(self, parameters: Sequence[Tensor], norm: Tensor, index: int) -> None:
        threshold = self._threshold(index)
        usual = threshold if self.retired else self.brain.usual(index)
        clip_to(parameters, norm, threshold=threshold, usual=usual, far_outlier=FAR_OUTLIER)

    def _threshold(self, index: int) -> float:
        return self.settings.fallback_threshold if self.retired else self.brain.threshold(index)

    def _skips_exactly(self) -> bool:
        # With a GradScaler the scaler has looked for itself, and skips.
        return self.settings.skip_nonfinite == "exact" and not self._scaled and not self.settings.dry_run

    def _count(self, trainer: Trainer, index: int, *, finite: bool) -> None:
        self._nonfinite_runs[index] = 0 if finite else self._nonfinite_runs.get(index, 0) + 1
        if finite:
            return
        if self.settings.skip_nonfinite in ("exact", "zero") and not self._scaled:
            self._skipped += 1
            if self._skipped == 1:
                verb = "would be kept" if self.settings.dry_run else "are kept"
                self.note(trainer, f"non-finite gradients; such steps {verb} from the weights and counted")
        if self._nonfinite_runs[index] == LOST_STEPS:
            self.note(trainer, f"the gradients of {LOST_STEPS} steps in a row were not finite; the run looks lost")

    def _tell_if_bounds_do_not_fit(self, trainer: Trainer, index: int) -> None:
        problem = self.brain.bounds_problem(index)
        if problem is not None and problem not in self._told:
            self._told.append(problem)
            self.note(trainer, problem)

    # Norms that wait for a decision ----------------------------------------------------------------------------------

    def _norms_by_optimizer(self) -> dict[int, list[float]]:
        grouped: dict[int, list[float]] = {}
        for index, norm in zip(self._owners, self._norms.fetch(), strict=True):
            grouped.setdefault(index, []).append(norm)
        return grouped

    def _forget_norms(self) -> None:
        self._norms.clear()
        self._owners.clear()

    def _describe(self, index: int, norms: Sequence[float]) -> None:
        usable = finite(norms)
        above = sum(norm > self._threshold(index) for norm in usable)
        self._windows[index] = (median(usable) if usable else math.nan, above / len(norms))

    def _named(self, value: str, index: int) -> str:
        return value if self._optimizers == 1 else f"{value}_{index}"
