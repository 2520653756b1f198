"""AdaptiveGradientClipping: every step's gradients, brought below a threshold that follows their history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.gradient_guard import GradientGuard
from lightning_automations.callbacks.gradient_limits import (
    UNCLIPPED,
    ValueClipping,
    other_clippings,
    refuse_optimizers,
    refuse_sharding,
    unclipped,
)
from lightning_automations.callbacks.gradient_outliers import farthest_outlier
from lightning_automations.core.events import Event, EventKind
from lightning_automations.core.gradient_clipping import GradientClippingBrain, Limit, Window
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings
from lightning_automations.core.nonfinite_steps import NonFiniteSteps
from lightning_automations.core.state import dumped, restored
from lightning_automations.lightning_internals import unscales_by_itself
from lightning_automations.probes.gradient_norm import parameters_with_gradients
from lightning_automations.probes.skip_flag import take_flag
from lightning_automations.probes.step_norms import StepNorms

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
      ``GradScaler``: once each parameter has made a step nothing is read for them either.
    * With a ``GradScaler`` (fp16) an overflow is normal and the scaler skips that step: nothing is read for it, and it
      is not counted as skipped.
    * ``torch.optim.LBFGS`` compares the gradients of several evaluations: they are not clipped. It takes a missing
      gradient for zero and ends its step there.

    After ``lost_after_steps`` such steps in a row the run is lost: the automation says so and stops it, unless another
    automation brings it back. Where a step's norm is not read this comes with the next decision, and once the
    automation has retired not at all.

    The Trainer's ``gradient_clip_val``, the module's ``configure_gradient_clipping`` and its
    ``on_before_optimizer_step`` act after this callback, on gradients that it has clipped. In a step that is skipped
    there are none (``parameter.grad`` is None): a hook of the module's own has to bear that.

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
    * ``skipped_steps``: steps with non-finite gradients so far.

    Once it has retired, norms are no longer collected: all but ``threshold`` and ``skipped_steps`` are NaN, and of
    skipped steps those are counted whose norm is read.

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
        return 1 if self.brain.begins(self._steps.owners()) else self.effective_settings.monitoring_frequency

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
        for message in (*other_clippings(trainer, pl_module), *unclipped(trainer.optimizers)):
            self.note(trainer, message)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.awake and not (self.retired and self.settings.dry_run):
            self._value_clipping.go_on(trainer)
            had_failed = self._failure is not None
            self._guarded(trainer, self._protect, trainer, optimizer)
            if self._failure is not None and not had_failed:
                # Under the limit that held last: on several ranks the others clip this step, too.
                self._guarded(trainer, self._protect, trainer, optimizer)

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        pending = self._steps.by_optimizer()
        # All of them first: an adjustment may be the last one, after which the fallback's limit holds.
        limits = {index: self._limit(index) for index in pending}
        for index, steps in pending.items():
            norms = [step.norm for step in steps]
            self._windows[index] = Window.of(norms, limits[index])
            outlier = farthest_outlier(steps, limits[index], self._guard, behind=self._steps, names=self._names)
            if outlier is not None:
                self._recorder.outlier(trainer, **outlier)
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
            self._held[index] = self.brain.limit(index)
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
        if event.kind is EventKind.ROLLED_BACK:
            self._nonfinite.start_anew()
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
            window, quartiles = Window(clipped_share=math.nan), (math.nan, math.nan)
            if not self.retired:
                window, quartiles = self._windows.get(index, Window()), self.brain.quartiles(index)
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
            "nonfinite": self._nonfinite.state_dict(),
            "held": {str(index): limit.threshold for index, limit in self._held.items()},
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
        self._nonfinite = NonFiniteSteps(self.settings.lost_after_steps)
        self._held: dict[int, Limit] = {}
        self._windows: dict[int, Window] = {}
        if state:
            self._steps.load_state_dict(state["steps"])
            self._skipped = state["skipped"]
            self._told = list(state["told"])
            self._nonfinite.load_state_dict(state["nonfinite"])
            self._held = {int(index): Limit.constant(threshold) for index, threshold in state["held"].items()}
            self._windows = {int(index): restored(Window, window) for index, window in state["windows"].items()}

    # One optimizer step ----------------------------------------------------------------------------------------------

    def _protect(self, trainer: Trainer, optimizer: Optimizer) -> None:
        parameters = parameters_with_gradients(optimizer)
        if not parameters:
            return
        if self._guard.scaled and unscales_by_itself(optimizer):  # one that came later than ``begin``
            self._tell(trainer, f"{type(optimizer).__name__} unscales its gradients itself; they are left alone")
            return
        index = trainer.optimizers.index(optimizer)
        clips = not isinstance(optimizer, UNCLIPPED)
        seen = self._guard.protect(optimizer, parameters, self._limit(index) if clips else Limit.constant(math.inf))
        if seen.dropped:
            self._value_clipping.pause(trainer)
        if self.active and clips:
            self._steps.add(index, seen.norm, step=trainer.global_step)
            if seen.notable:
                self._steps.add_behind(parameters, seen.norms)
        if self._guard.counts_at_once(optimizer):
            self._count(trainer, index, finite=math.isfinite(seen.norm))

    def _limit(self, index: int) -> Limit:
        """The brain's; once it has failed, the one that held last; once retired, the fallback's."""
        if not self.retired and self._failure is None:
            self._held[index] = self.brain.limit(index)
        held = self._held.get(index, Limit.constant(self.settings.fallback_threshold))
        if not self.retired:
            return held
        written = "fallback" in self._written and "threshold" in self.settings.fallback
        return Limit.constant(self.settings.fallback_threshold if written else held.threshold)

    def _count(self, trainer: Trainer, index: int, *, finite: bool) -> None:
        if not finite and self.settings.skip_nonfinite in ("exact", "zero") and not self._guard.scaled:
            self._skipped += 1
            if self._skipped == 1:
                verb = "would be kept" if self.settings.dry_run else "are kept"
                self.note(trainer, f"non-finite gradients; such steps {verb} from the weights and counted")
        if self._nonfinite.see(optimizer=index, finite=finite):
            self._give_up(trainer)

    def _give_up(self, trainer: Trainer) -> None:
        lost = f"the gradients of {self.settings.lost_after_steps} steps in a row were not finite: the run is lost"
        if self.settings.dry_run:
            self._tell(trainer, f"{lost}; it would be stopped")
        elif self.session.bring_back(trainer, source=self):
            self.note(trainer, f"{lost}; another automation brings it back")
        else:
            self.note(trainer, f"{lost} and stops (lost_after_steps)")
            trainer.should_stop = True

    def _tell_if_bounds_do_not_fit(self, trainer: Trainer, index: int) -> None:
        problem = self.brain.bounds_problem(index)
        if problem is not None:
            self._tell(trainer, problem)

    def _tell(self, trainer: Trainer, message: str) -> None:
        """Once in a run, also where it is resumed."""
        if message not in self._told:
            self._told.append(message)
            self.note(trainer, message)

    def _named(self, value: str, index: int) -> str:
        return value if self._optimizers == 1 else f"{value}_{index}"
