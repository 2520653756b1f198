"""AdaptiveGradientClipping: every step's gradients, brought below a threshold that follows their history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.gradient_guard import GradientGuard
from lightning_automations.callbacks.gradient_limits import (
    ValueClipping,
    other_clippings,
    refuse_optimizers,
    refuse_sharding,
)
from lightning_automations.core.events import Event, EventKind
from lightning_automations.core.gradient_clipping import GradientClippingBrain, Limit, Window
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings
from lightning_automations.core.state import dumped, restored
from lightning_automations.probes.gradient_norm import parameters_with_gradients
from lightning_automations.probes.skip_flag import take_flag
from lightning_automations.probes.step_norms import Step, StepNorms

__all__ = ["AdaptiveGradientClipping"]


class AdaptiveGradientClipping(AutomationCallback):
    """Clips the gradients of every optimizer step at a threshold that follows the history of their norms.

    Before each optimizer step, once per real step whatever the accumulation, in automatic and manual optimization, the
    norm of the optimizer's gradients is taken; a norm above the threshold is scaled down to it, and one several times
    above it down to the usual norm. Every ``monitoring_frequency`` steps, and at each of the first few, the brain gets
    the norms and the threshold moves. Each optimizer has a threshold and a history of its own.

    A step with NaN or infinity in its gradients is skipped: its gradients are taken away, and torch's optimizers then
    leave weights, momentum, decay and step counters alone. This goes on after the automation has retired. The norm is
    what tells such a step, and it is read for that: one number a step, which also says whether there is anything to
    clip. Four cases are different:

    * With ``skip_nonfinite`` ``zero`` or ``off`` nothing is read in a step: the norms of a period come in one transfer.
    * Fused optimizers (``fused=True``) skip by themselves where a flag on the device tells them to, as they do for a
      ``GradScaler``: from their second step on nothing is read for them either.
    * With a ``GradScaler`` (fp16) an overflow is normal and the scaler skips that step: nothing is read or counted.
    * ``torch.optim.LBFGS`` evaluates several times a step and takes a missing gradient for zero: it ends its step
      there.

    After ``lost_after_steps`` such steps in a row the run is lost: the automation says so and stops it, unless another
    automation brings it back.

    The Trainer's ``gradient_clip_val`` and the module's ``configure_gradient_clipping`` act after this callback, on
    gradients that it has clipped. In a step that is skipped there are none: such a hook has to bear that.

    Parameters that are sharded as ``DTensor`` (``ModelParallelStrategy``: FSDP2, tensor parallelism) have the norm of
    the whole gradient. Use something else where a process holds parts of another kind (``FSDPStrategy``, DeepSpeed),
    and with fused optimizers in fp16 with a ``GradScaler``, which unscale inside their step: both are refused.

    Args:
        settings: See ``GradientClippingSettings``.

    Logged as ``automation/adaptive_gradient_clipping/...``, with several optimizers all but the last one with the
    optimizer's index at the end (``threshold_0``):

    * ``threshold``: the largest norm that holds now.
    * ``norm``, ``norm_after``: median norm before and after clipping since the decision before the last one; NaN before
      the first one.
    * ``clipped_share``: share of those steps whose norm was above the threshold, 0 to 1.
    * ``norm_quartile_1``, ``norm_quartile_3``: of the norms in the history; NaN while there are too few.
    * ``skipped_steps``: steps with non-finite gradients so far. After it has retired, only those are counted
      whose norm is read.

    The journal gets, as ``outlier``, the farthest norm of a period, what was left of it, and the parameter with the
    largest gradient in it.

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
    _names: dict[int, str]
    """Of the parameters, by their ``id``."""

    def make_brain(self, settings: GradientClippingSettings) -> GradientClippingBrain:
        return GradientClippingBrain(settings, written=self._written)

    def period_steps(self) -> int:
        return 1 if self.brain.begins() else self.effective_settings.monitoring_frequency

    # Before and during training --------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and self.settings.enabled:
            refuse_sharding(trainer.strategy, automation=self.name)
        super().setup(trainer, pl_module, stage)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._guard = GradientGuard(skip=self.settings.skip_nonfinite, scaled=scaled, dry_run=self.settings.dry_run)
        self._optimizers = len(trainer.optimizers)
        self._names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        refuse_optimizers(trainer.optimizers, scaled=scaled, automation=self.name)
        for message in other_clippings(trainer, pl_module):
            self.note(trainer, message)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.awake and not (self.retired and self.settings.dry_run):
            self._value_clipping.go_on(trainer)
            self._guarded(trainer, self._protect, trainer, optimizer)

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        pending = self._steps.by_optimizer()
        for index, steps in pending.items():
            norms = [step.norm for step in steps]
            self._windows[index] = Window.of(norms, self._limit(index))
            self._record_outlier(trainer, index, steps)
            if not self._guard.counts_at_once(trainer.optimizers[index]):
                for norm in norms:
                    self._count(trainer, index, finite=math.isfinite(norm))
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
        self._steps.clear()

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps.clear()

    def hear(self, trainer: Trainer, event: Event) -> None:
        if event.kind in (EventKind.ROLLED_BACK, EventKind.LOSS_WEIGHTS_CHANGED, EventKind.BATCH_CHANGED):
            self._steps.clear()
        if event.kind in (EventKind.LOSS_WEIGHTS_CHANGED, EventKind.BATCH_CHANGED):
            self.brain.start_anew()

    def end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._value_clipping.go_on(trainer)
        for optimizer in trainer.optimizers:
            take_flag(optimizer)
        # A run that ends inside a period shows that period's norms; they stay, for a fit that goes on.
        if not self.retired:
            for index, steps in self._steps.by_optimizer().items():
                self._windows[index] = Window.of([step.norm for step in steps], self._limit(index))

    def values(self) -> Mapping[str, float]:
        values: dict[str, float] = {}
        for index in range(self._optimizers):
            window = self._windows.get(index, Window())
            quartiles = self.brain.quartiles(index)
            named = {
                "threshold": self._limit(index).threshold,
                "norm": window.norm,
                "norm_after": window.norm_after,
                "clipped_share": window.clipped_share,
                "norm_quartile_1": quartiles[0],
                "norm_quartile_3": quartiles[1],
            }
            values |= {self._named(name, index): value for name, value in named.items()}
        return {**values, "skipped_steps": float(self._skipped)}

    def extra_state(self) -> dict[str, Any]:
        return {
            "steps": self._steps.state_dict(self._names),
            "skipped": self._skipped,
            "nonfinite_runs": {str(index): count for index, count in self._nonfinite_runs.items()},
            "told": list(self._told),
            "windows": {str(index): dumped(window) for index, window in self._windows.items()},
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self._optimizers = 1
        self._guard = GradientGuard(skip=self.settings.skip_nonfinite, scaled=False, dry_run=self.settings.dry_run)
        self._value_clipping = ValueClipping()
        self._names = {}
        self._steps = StepNorms()
        self._skipped = 0
        self._told: list[str] = []
        self._nonfinite_runs: dict[int, int] = {}
        self._windows: dict[int, Window] = {}
        if state:
            self._steps.load_state_dict(state["steps"])
            self._skipped = state["skipped"]
            self._told = list(state["told"])
            self._nonfinite_runs = {int(index): count for index, count in state["nonfinite_runs"].items()}
            self._windows = {int(index): restored(Window, window) for index, window in state["windows"].items()}

    # One optimizer step ----------------------------------------------------------------------------------------------

    def _protect(self, trainer: Trainer, optimizer: Optimizer) -> None:
        parameters = parameters_with_gradients(optimizer)
        if not parameters:
            return
        index = trainer.optimizers.index(optimizer)
        seen = self._guard.protect(optimizer, parameters, self._limit(index))
        if seen.dropped:
            self._value_clipping.pause(trainer)
        if not self.retired:
            self._steps.add(index, seen.norm, step=trainer.global_step)
            if seen.notable:
                self._steps.add_behind(parameters, seen.norms)
        if self._guard.counts_at_once(optimizer):
            self._count(trainer, index, finite=math.isfinite(seen.norm))

    def _limit(self, index: int) -> Limit:
        if self.retired:
            return Limit(threshold=self.settings.fallback_threshold, usual=self.settings.fallback_threshold)
        return self.brain.limit(index)

    def _count(self, trainer: Trainer, index: int, *, finite: bool) -> None:
        self._nonfinite_runs[index] = 0 if finite else self._nonfinite_runs.get(index, 0) + 1
        if finite:
            return
        if self.settings.skip_nonfinite in ("exact", "zero") and not self._guard.scaled:
            self._skipped += 1
            if self._skipped == 1:
                verb = "would be kept" if self.settings.dry_run else "are kept"
                self.note(trainer, f"non-finite gradients; such steps {verb} from the weights and counted")
        if self._nonfinite_runs[index] == self.settings.lost_after_steps:
            self._give_up(trainer)

    def _give_up(self, trainer: Trainer) -> None:
        lost = f"the gradients of {self.settings.lost_after_steps} steps in a row were not finite: the run is lost"
        if self.settings.dry_run:
            self.note(trainer, f"{lost}; it would be stopped")
        elif self.session.bring_back(trainer, source=self):
            self.note(trainer, f"{lost}; another automation brings it back")
        else:
            self.note(trainer, f"{lost} and stops (lost_after_steps)")
            trainer.should_stop = True

    def _tell_if_bounds_do_not_fit(self, trainer: Trainer, index: int) -> None:
        problem = self.brain.bounds_problem(index)
        if problem is not None and problem not in self._told:
            self._told.append(problem)
            self.note(trainer, problem)

    # What is told of the steps since the last decision ---------------------------------------------------------------

    def _record_outlier(self, trainer: Trainer, index: int, steps: Sequence[Step]) -> None:
        """Only the farthest of a period, so that a run full of them does not fill the journal."""
        limit = self._limit(index)
        farthest = max(steps, key=lambda step: step.norm if math.isfinite(step.norm) else math.inf)
        is_finite = math.isfinite(farthest.norm)
        if limit.is_far(farthest.norm) if is_finite else not self._guard.scaled:
            dominant = self._steps.dominant(farthest.place, self._names)
            self._recorder.outlier(
                trainer,
                step=farthest.step,
                norm=farthest.norm if is_finite else str(farthest.norm),
                threshold=limit.threshold,
                left=limit.left_of(farthest.norm) if is_finite else 0.0,
                dominant=None if dominant is None else asdict(dominant),
            )

    def _named(self, value: str, index: int) -> str:
        return value if self._optimizers == 1 else f"{value}_{index}"
