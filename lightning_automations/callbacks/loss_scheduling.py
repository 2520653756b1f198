"""DynamicLossScheduling: balances the weights of a loss with several terms."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.loss_terms import LoggedTerms, checked_term, returned_terms
from lightning_automations.callbacks.ranks import Across
from lightning_automations.callbacks.term_gradients import TermGradients
from lightning_automations.callbacks.weighted_losses import read_weights, write_weights
from lightning_automations.core.errors import ConfigError, Problem, nearest
from lightning_automations.core.events import Event, EventKind
from lightning_automations.core.loss_scheduling import LossSchedulingBrain
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings
from lightning_automations.core.statistics import finite, mean
from lightning_automations.probes.deferred import DeferredReadings

__all__ = ["DynamicLossScheduling"]

_NO_WEIGHTS = (
    "stays out of this run: the module has no loss_weights that can be written (a mapping from the names of its terms "
    "to their weights, or a buffer; WeightedLosses adds what is needed)"
)
_NO_TERMS = (
    "no term has been read: return them from the training step under loss_terms, or name the logged ones in terms"
)

_NO_GRADIENTS = (
    "no term has a gradient by shared_parameters: the weights stay as they are. Name what all terms go through, "
    "outside of reentrant checkpointing, and give self.weighted(...) terms that are not detached"
)
_UNREAD = (
    "no value of {} but 0 has been read: only the other terms are balanced. Return each term under loss_terms, or log "
    "it at every step under the name that terms has for it"
)
_AT_BOUNDS = (
    "the weight of {} has come to its bound (min_weight, max_weight), so that the shares of the terms are not reached: "
    "set other bounds, or give the terms units in which they are of more similar size"
)
_NORM_OF = "gradient_norm of {}"


class DynamicLossScheduling(AutomationCallback):
    """Balances the weights of a loss with several terms.

    The module has ``loss_weights``, a mapping from names to numbers or to tensors of one element (``ParameterDict``,
    buffers), and reads it at every step. Its training step returns the unweighted terms under ``loss_terms``, or they
    are logged and ``terms`` names them. The mixin ``WeightedLosses`` adds both. ``loss_weights`` may also be a buffer
    with one entry for each of ``loss_terms``, in their order; its entries are called 0, 1, .... A module without
    ``loss_weights`` is left alone.

    After ``baseline_iterations`` steps the weights are calibrated (``auto_calibrate``), and then follow the terms by
    ``method``. A changed weight changes what the loss means: the learning-rate automation and the stopper look anew.
    Several ranks decide on the mean of their terms. Terms stay on the device and are fetched once a decision.

    ``gradnorm`` needs ``WeightedLosses``, automatic optimization and whole parameters (no FSDP, no DeepSpeed). It
    measures the terms' gradients by ``shared_parameters`` in one batch of every ``gradient_frequency`` steps, before
    the backward pass and apart from it: gradients are what they would be without it. Several ranks decide on the mean
    of their norms.

    Do not use it where the weights mean something of their own (a likelihood, a physical unit), or where the training
    step itself changes them.

    Args:
        settings: See ``LossSchedulingSettings``.

    Logged as ``automation/dynamic_loss_scheduling/weight_<term>``: the weights that hold.

    Raises:
        ConfigError: If a setting is wrong; as training starts, if ``terms`` or ``fallback`` names a term that the
            module does not have, ``shared_parameters`` names no parameter that is trained, or ``gradnorm`` cannot work.

    Example:
        >>> DynamicLossScheduling(method="uncertainty").settings.baseline_iterations
        200
    """

    settings_class = LossSchedulingSettings
    metrics_name = "dynamic_loss_scheduling"

    settings: LossSchedulingSettings
    effective_settings: LossSchedulingSettings
    brain: LossSchedulingBrain

    _readings: dict[str, DeferredReadings]
    _logged: LoggedTerms
    _gradients: TermGradients
    _has_weights: bool
    _told: list[str]

    def make_brain(self, settings: Any) -> LossSchedulingBrain:
        return LossSchedulingBrain(settings)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = read_weights(pl_module)
        if weights is None:
            self.note(trainer, _NO_WEIGHTS)
            return
        self._refuse_unknown_terms(weights)
        if self.settings.needs_gradients:
            self._gradients.begin(trainer, pl_module, self.settings)
        self.brain.begin(weights, step=trainer.global_step)
        self._readings = {name: self._readings.get(name, DeferredReadings()) for name in weights}
        self._has_weights = True
        if self.brain.weights != weights and not self.settings.dry_run:
            write_weights(pl_module, self.brain.weights)  # a resumed run: numbers are no part of a checkpoint

    def period_steps(self) -> int | None:
        return self.effective_settings.adaptation_frequency if self._has_weights else None

    @property
    def _measures(self) -> bool:
        return self.settings.needs_gradients and self.active and self._has_weights

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._measures:
            frequency = self.effective_settings.gradient_frequency
            self._gradients.before_batch(pl_module, step=trainer.global_step, frequency=frequency)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if self._measures:
            names = [name for name, weight in self.brain.weights.items() if weight > 0]
            self._guarded(trainer, self._gradients.before_backward, trainer, pl_module, names)

    def after_batch(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        self._gradients.after_batch(pl_module)
        if not self._has_weights:
            return
        in_order = isinstance(pl_module.loss_weights, Tensor)
        terms = returned_terms(outputs, self._readings, in_order=in_order)
        if self.settings.terms:
            terms |= self._logged.new_values(trainer.callback_metrics)
        for name, readings in self._readings.items():
            if terms.get(name) is not None:
                readings.add(checked_term(name, terms[name]))

    def read(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, float]:
        taken = {name: readings.take() for name, readings in self._readings.items()}
        if self.settings.needs_gradients:
            taken.update({_NORM_OF.format(name): self._gradients.take(name) for name in self.brain.weights})
        return {name: mean([abs(value) for value in finite(values)]) for name, values in taken.items()}

    def across_ranks(self) -> Mapping[str, Across]:
        names = [*self.brain.weights]
        if self.settings.needs_gradients:
            names += [_NORM_OF.format(name) for name in self.brain.weights]
        return dict.fromkeys(names, Across.MEAN)

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        norms = {name: readings.get(_NORM_OF.format(name), math.nan) for name in self.brain.weights}
        if not finite(list(readings.values())):
            self._tell(trainer, "silence", _NO_TERMS)
            return
        if self.settings.needs_gradients and not any(norm > 0 for norm in norms.values()):
            self._tell(trainer, "silence", _NO_GRADIENTS)
        step = trainer.global_step
        # The same number on every rank, and again in a resumed run.
        draw = random.Random(step).random()
        made = self.brain.observe(step=step, epoch=trainer.current_epoch, terms=readings, draw=draw, norms=norms)
        self._tell_of_terms(trainer, step)
        for adjustment in made:
            if self._retired:
                return
            self.adjust(trainer, adjustment, lambda: write_weights(pl_module, self.brain.weights))
        if made and not self.settings.dry_run:
            self._announce(trainer)

    def hear(self, trainer: Trainer, event: Event) -> None:
        if event.kind is EventKind.ROLLED_BACK:
            self.brain.forget()
            for readings in self._readings.values():
                readings.clear()
            self._gradients.clear()
            if not self.settings.dry_run:
                self.hear_retired(trainer, event)

    def hear_retired(self, trainer: Trainer, event: Event) -> None:
        if event.kind is EventKind.ROLLED_BACK and self._has_weights:
            # Parameters and buffers went back with the network.
            write_weights(trainer.lightning_module, self.brain.weights)

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._has_weights:
            self.brain.hold(self.settings.fallback)
            write_weights(pl_module, self.brain.weights)
            self._announce(trainer)

    def values(self) -> Mapping[str, float]:
        return {f"weight_{name}": weight for name, weight in self.brain.weights.items()}

    def extra_state(self) -> dict[str, Any]:
        return {
            "readings": {name: readings.fetch() for name, readings in self._readings.items()},
            "gradients": self._gradients.state_dict(),
            "told": self._told,
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self._has_weights = False
        self._told = list(state.get("told", []))
        self._logged = LoggedTerms(self.settings.terms)
        self._gradients = TermGradients(state.get("gradients", {}))
        self._readings = {}
        for name, values in state.get("readings", {}).items():
            self._readings[name] = DeferredReadings()
            self._readings[name].restore(float(value) for value in values)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _announce(self, trainer: Trainer) -> None:
        event = Event(kind=EventKind.LOSS_WEIGHTS_CHANGED, step=trainer.global_step)
        self.session.announce(trainer, event, source=self)

    def _tell(self, trainer: Trainer, subject: str, message: str) -> None:
        """Once a run for each subject."""
        if subject not in self._told:
            self.note(trainer, message)
            self._told.append(subject)

    def _tell_of_terms(self, trainer: Trainer, step: int) -> None:
        unread, held = self.brain.unread(step), self.brain.at_bounds()
        if unread:
            self._tell(trainer, "silence", _UNREAD.format(", ".join(unread)))
        if held:
            self._tell(trainer, "bounds", _AT_BOUNDS.format(", ".join(held)))

    def _refuse_unknown_terms(self, weights: Mapping[str, float]) -> None:
        problems = [
            Problem(
                path=f"{self.name}.{setting}.{name}",
                expected=f"a term of the module's loss_weights ({', '.join(weights)})",
                got=repr(name),
                hint=nearest(name, list(weights)),
            )
            for setting in ("terms", "fallback")
            for name in getattr(self.settings, setting)
            if name not in weights
        ]
        if problems:
            raise ConfigError(problems)
