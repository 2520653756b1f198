"""IntelligentEarlyStopping: ends a training that is over, and says why."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.lightning_attributes import reset_attributes, show_history, show_stop
from lightning_automations.callbacks.monitored import MonitoredMetric
from lightning_automations.callbacks.namespaces import EARLY_STOPPING_BASES
from lightning_automations.callbacks.planned_drop import PlannedDrop
from lightning_automations.callbacks.ranks import Across, agreed
from lightning_automations.callbacks.restore_best import RestoresBest
from lightning_automations.core.decision import Adjustment
from lightning_automations.core.early_stopping import EarlyStoppingBrain, stop_in_words
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.events import Event, EventKind
from lightning_automations.probes.running_mean import RunningMean

__all__ = ["IntelligentEarlyStopping"]

log = logging.getLogger(__name__)


class IntelligentEarlyStopping(RestoresBest, *EARLY_STOPPING_BASES):  # type: ignore[misc]
    """Stops a training that is over: plateau, overfitting, convergence, divergence, a value reached.

    It is Lightning's ``EarlyStopping`` to everyone who looks for one (``trainer.early_stopping_callback``), with counts
    in optimizer steps, gates that hold, and the best weights put back on request.

    A metric of the validation is judged at the end of each validation, any other one at the end of each training epoch;
    each value once. Values before ``warmup_iterations`` are not judged. Before ``min_epochs``, ``min_iterations`` and
    the trainer's own ``min_epochs`` and ``min_steps`` are all reached, ``trainer.should_stop`` is left alone whatever
    the metric does, and the verdict is formed anew afterwards. Patience starts anew when the learning rate is lowered,
    by a schedule with steps or by another automation, and when batch size or loss weights change; it stands still while
    the schedule plans a drop after a flat rate, and while the learning-rate automation tries rates or brings them down.
    After a rollback the values judged since the snapshot are forgotten.

    Ranks that logged different values agree on their mean. Lightning stops at the first NaN, this at two in a row.

    With ``restore_best`` the weights of the best value ever judged are put back when training ends, also after Ctrl-C,
    not after another error (what is saved then is for a resume). Two copies are kept on the host, one in each
    checkpoint. Checkpoints saved during training hold the weights of their time; what ``ModelCheckpoint`` saves when
    training ends or on Ctrl-C (``save_last``, ``save_on_exception``) comes after us and holds the best weights.

    Args:
        settings: See ``EarlyStoppingSettings``.

    Logged as ``automation/early_stopping/...``:

    * ``best``: the best value judged so far; NaN before the first.
    * ``wait_steps``: steps since the last improvement that counts, or since the wait started anew.

    Attributes:
        monitor, mode: The metric that is watched, and which way is better.
        best_score: The best value judged so far.
        wait_count: Judgements since the last improvement that counts.
        patience, min_delta: ``patience`` (in steps) and ``min_improvement`` of the settings.
        stopped_epoch, stopping_reason, stopping_reason_message: When and why training was stopped, as Lightning has
            them; overfitting and convergence count as patience exhausted in Lightning's list of reasons.

    Raises:
        ConfigError: If a setting is wrong; after the first validation, if a metric that was named is not logged; at the
            first value, if its name does not say which way is better.

    Example:
        >>> stopper = IntelligentEarlyStopping(monitor_metric="val/loss", patience=500, restore_best=True)
        >>> stopper.monitor, stopper.settings.min_iterations
        ('val/loss', 5000)
    """

    settings_class = EarlyStoppingSettings
    metrics_name = "early_stopping"
    across: ClassVar[Mapping[str, Across]] = {
        "present": Across.MAX, "metric": Across.MEAN, "non_finite": Across.MAX, "train_loss": Across.MEAN,
    }  # fmt: skip

    settings: EarlyStoppingSettings
    effective_settings: EarlyStoppingSettings
    brain: EarlyStoppingBrain

    def make_brain(self, settings: Any) -> EarlyStoppingBrain:
        return EarlyStoppingBrain(settings)

    # State -----------------------------------------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        return {
            "monitor": self.metric.name,
            "direction": self.metric.direction,
            "seen": self.metric.seen,
            "plain": self._plain,
            "epoch_is_sound": self._epoch_is_sound,
            "last_drop": self._last_drop,
            "loss_total": self._losses.total(),
            "loss_count": self._losses.count,
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self.metric = MonitoredMetric(self.settings, named="monitor_metric" in self._written)
        if not self.metric.take_up(state):
            # Settings given now win: what was seen of another metric says nothing about this one.
            self.brain, state = self.make_brain(self.settings), {}
        self._plain: bool = state.get("plain", False)
        self._epoch_is_sound: bool = state.get("epoch_is_sound", True)
        self._last_drop: int | None = state.get("last_drop")
        self._losses = RunningMean()
        self._losses.restore(state.get("loss_total", 0.0), state.get("loss_count", 0))
        self._stop: Adjustment | None = None
        self.forget_weights()
        reset_attributes(self, self.settings)
        self._show_history()

    def _show_history(self) -> None:
        show_history(self, self.brain.history, monitor=self.metric.name, mode=self.metric.direction or "min")

    # Before and during training --------------------------------------------------------------------------------------

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stops = 0
        self._stop = None
        self._judged_at: int | None = None
        self._validated_at: int | None = None
        self._at_epoch_end = False
        self._validation_is_sound = False
        self._planned_steps = self._planned_at_start = self.session.length.steps
        rates = next(iter(self.session.rate.scheduled), [])
        self._planned_drop = PlannedDrop(trainer, self.session.length, rates, known=self._last_drop)
        self._last_drop = self._planned_drop.last
        if self._plain:
            self._make_plain()
        if self._budget_used_up():
            self.retire(trainer, self._budget_message())
        reset_attributes(self, self.effective_settings)
        self._show_history()
        obstacles = self.effective_settings.obstacles(self.session.length)
        if obstacles and self.judges:
            self.note(trainer, f"it cannot stop this run early: {'; '.join(obstacles)}")
        self.begin_keeping_weights(trainer, pl_module, resumed=self.metric.seen)

    def after_batch(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        if self.settings.uses("overfitting") and isinstance(outputs, Mapping) and "loss" in outputs:
            # Lightning has divided the loss by the accumulation.
            self._losses.add(outputs["loss"], weight=float(trainer.accumulate_grad_batches))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_is_sound = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            if self.settings.enabled:
                self.metric.warn_if_absent(trainer)
        elif self.judges:
            self._validated_at = trainer.global_step
            if self._validation_is_sound:
                self._judge(trainer, pl_module, at_epoch_end=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.judges and self._judged_at != trainer.global_step and self._epoch_is_sound:
            self._judge(trainer, pl_module, at_epoch_end=True)
        self._epoch_is_sound = True

    def hear(self, trainer: Trainer, event: Event) -> None:
        step = trainer.global_step
        if event.kind is EventKind.ROLLED_BACK:
            self.brain.forget_after(event.step, step=step)
            self._validation_is_sound = self._epoch_is_sound = False
            self._losses.restore(0.0, 0)
        elif event.kind is not EventKind.RATE_CHANGED or event.ratio < 1:
            self.brain.restart_wait(step)
        if event.kind is EventKind.BATCH_CHANGED and self._planned_steps is not None and trainer.max_steps < 0:
            # A run of so many epochs is shorter in steps from here on.
            self._planned_steps = step + round((self._planned_steps - step) / event.ratio)

    # Judging ---------------------------------------------------------------------------------------------------------

    @property
    def judges(self) -> bool:
        """Whether values are judged, by all criteria or by patience alone."""
        return self._awake and (self.active or self._plain) and self.metric.wanted

    def _judge(self, trainer: Trainer, pl_module: LightningModule, *, at_epoch_end: bool) -> None:
        self._at_epoch_end = at_epoch_end
        if not self._retired:
            self.decision_point(trainer, pl_module)
            return
        # The plain rule, which goes on as the fallback: a decision point of its own, for the base's is closed.
        readings, _ = agreed(trainer, self.read(trainer, pl_module), self.across, failed=False)
        self._guarded(trainer, self.decide, trainer, pl_module, readings)

    def read(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, float]:
        # At the end of an epoch a metric may just have been chosen that its validation has logged already.
        validated_now = self._at_epoch_end and self._validated_at == trainer.global_step
        metric = self.metric.fresh_value(trainer, validated_now=validated_now)
        if metric is None:
            return {"present": 0.0}
        loss = self._losses.mean()
        return {
            "present": 1.0,
            "metric": metric,
            "non_finite": float(not math.isfinite(metric)),
            "train_loss": math.nan if loss is None else loss,
        }

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        if readings["present"] != 1.0:
            self._find_metric(trainer, pl_module)
            return
        self._judged_at = trainer.global_step
        self._losses.restore(0.0, 0)
        direction = self.metric.take_direction(trainer)
        # The mean over ranks leaves NaN out: one rank's NaN counts all the same.
        metric = math.nan if readings["non_finite"] > 0 else readings["metric"]
        before = self.brain.history.best_step
        adjustment = self._observe(trainer, metric, readings["train_loss"])
        if self.brain.history.best_step != before:
            if self.settings.verbose and trainer.is_global_zero:
                log.info("%s: new best %s %.6g at step %d", self.name, self.metric.name, metric, trainer.global_step)
            self.keep_weights_if_best(trainer, pl_module, metric, higher_is_better=direction == "max")
        self._show_history()
        limit = self.effective_settings.max_adjustments  # at 0 the plain rule alone gets here
        if adjustment is not None and (limit is None or self._stops < max(limit, 1)):
            self._end_training(trainer, adjustment)

    def _observe(self, trainer: Trainer, metric: float, train_loss: float) -> Adjustment | None:
        step, epoch = trainer.global_step, trainer.current_epoch
        epochs_done = epoch + int(self._at_epoch_end or trainer.is_last_batch)
        return self.brain.observe(
            step=step,
            epoch=epoch,
            epochs_done=epochs_done,
            metric=metric,
            higher_is_better=self.metric.direction == "max",
            train_loss=train_loss,
            rate=next((rates[0] for rates in self.session.rate.effective if rates), None),
            # Lightning keeps should_stop until its own minima are reached, and then ends a run that may be improving.
            may_stop=step >= (trainer.min_steps or 0) and epochs_done >= (trainer.min_epochs or 0),
            drop_ahead=self._planned_drop.is_ahead(trainer),
            clock_stands=any(item.tries_rates for item in self.session.automations),
            can_be_saved=any(item.can_bring_back for item in self.session.automations),
            horizon_steps=self._planned_steps,
        )

    def _end_training(self, trainer: Trainer, adjustment: Adjustment) -> None:
        def stop() -> None:
            trainer.should_stop = True
            show_stop(self, trainer, adjustment)

        self._stops += 1
        self._stop = adjustment
        self.adjust(trainer, adjustment, stop)
        # A later fit that goes on from here gets its full patience.
        self.brain.restart_wait(adjustment.step)

    def _budget_used_up(self) -> bool:
        # Stops are counted per fit, in ``decide``: to have stopped a run is no reason to retire.
        return self.effective_settings.max_adjustments == 0

    def _find_metric(self, trainer: Trainer, pl_module: LightningModule) -> None:
        before = self.metric.name
        message = self.metric.find(trainer, at_epoch_end=self._at_epoch_end, validated=self._validated_at is not None)
        if message is not None:
            self.note(trainer, message)
        if self.metric.name != before:
            self._judge(trainer, pl_module, at_epoch_end=self._at_epoch_end)

    # The end ---------------------------------------------------------------------------------------------------------

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._plain = self.settings.fallback.get("early_stopping", False)
        if self._plain:
            self._make_plain()
        else:
            self.forget_weights()  # nobody looks any more whether later ones are better

    def _make_plain(self) -> None:
        """Decide by patience alone from here on, with the gates as they are."""
        state = self.brain.state_dict()
        self.effective_settings = self.effective_settings.by_patience_alone()
        self.brain = EarlyStoppingBrain(self.effective_settings)
        self.brain.load_state_dict(state)

    def values(self) -> Mapping[str, float]:
        best = self.brain.history.best
        return {"best": math.nan if best is None else best, "wait_steps": float(self.brain.history.waited(self._step))}

    def summary(self) -> str:
        history, parts = self.brain.history, ["nothing was judged"]
        if history.best is not None:
            parts = [f"best {self.metric.name} {history.best:.6g} at step {history.best_step}"]
        if self._stop is not None:
            plan = self._planned_at_start, self._planned_steps
            parts.insert(0, stop_in_words(self._stop, *plan, applied=not self.settings.dry_run))
        if self.weights_put_back and self.best_weights.step != self._step:
            parts.append(f"weights of step {self.best_weights.step} put back")
        return "; ".join(parts)
