"""The learning-rate automation: reads loss and metric, and sets its factor on the scheduled rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer
from torch.optim import Optimizer

from lightning_automations.callbacks.fallback_checks import problems_of_written_fallback
from lightning_automations.callbacks.ranks import Across
from lightning_automations.callbacks.rate_fallback import FACTOR_NAME, FollowsFallback
from lightning_automations.callbacks.rate_readings import ACROSS, RateReadings
from lightning_automations.callbacks.rate_words import SEVERAL_OPTIMIZERS, WhatHoldsItBack, goes_on_for_longer
from lightning_automations.callbacks.rollback_points import RollbackPoints
from lightning_automations.callbacks.silence import NOTHING_READ, Silence
from lightning_automations.callbacks.validation_metric import ValidationMetric
from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.events import Event, EventKind
from lightning_automations.core.learning_rate import LearningRateBrain
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.progress import WINDOW_STEPS

__all__ = ["IntelligentLearningRateScheduler"]

TENSORS_KEY = "lightning_automations.learning_rate"


class IntelligentLearningRateScheduler(FollowsFallback):
    """Finds, raises, lowers and anneals the learning rate on top of any schedule, and takes a diverged run back.

    The rate that the optimizer uses is the scheduled rate times a factor between ``min_lr_factor`` and
    ``max_lr_factor``.

    * In the first 10 to 20 steps of a fresh fit the given rate is tried. Where the loss explodes, the weights of the
      start come back and a tenth of the rate is tried; where it does not move, 0.3 of it. If that does not help, the
      given rate holds, so that fine-tuning is left alone (``find_start``).
    * While the gradient surely points on along the way that the weights have gone, the factor is tripled: the sign of
      hypergradient descent (Baydin et al. 2018, arXiv 1703.04782). A validation that is not the best forbids it
      (``raise_rate``).
    * The factor is halved when neither the smoothed training loss nor the validation metric has improved for
      ``plateau_patience`` steps, and lowered to 0.3 of itself when the metric surely gets worse while the loss falls.
      A patience that is not written grows to a fifth of the steps until the last improvement.
    * When the loss surely rises, explodes, or stays non-finite, weights, buffers, averages, optimizer and scaler go
      back to a snapshot that has proved itself, with a lower rate, where ``min_lr_factor`` allows one. A loss
      that is as high there has only changed its meaning: then all of that is taken back (``snapshots``).
    * Over the last quarter of a run of known length the factor falls to ``min_lr_factor``, unless the scheduled rate
      has fallen by then (``anneal_share``).

    While the schedule itself rises (a warm-up, a restart) no trend is judged. With several optimizers the start is not
    tried, nothing is raised or annealed, and the loss is only asked to be finite: in adversarial training it rises when
    the other network gets better.

    Works with every ``torch.optim.lr_scheduler`` class, stepped by step or by epoch, and with none; with several
    parameter groups and optimizers; with manual optimization as long as the training step returns its loss.

    Use it for runs where the rate was not tuned, or where nobody watches. Leave it out where the exact schedule is what
    you study.

    Args:
        settings: Keyword settings, see ``LearningRateSettings``.

    Raises:
        ConfigError: If a setting is unknown or wrong, or if torch refuses the scheduler of ``fallback``.

    Example:
        >>> callback = IntelligentLearningRateScheduler(plateau_patience=500, fallback={"scheduler_type": "cosine"})
        >>> callback.settings.plateau_patience
        500
    """

    metrics_name: ClassVar[str] = "intelligent_learning_rate_scheduler"
    across: ClassVar[Mapping[str, Across]] = ACROSS

    settings: LearningRateSettings
    effective_settings: LearningRateSettings
    brain: LearningRateBrain

    _readings: RateReadings
    _metric: ValidationMetric
    _points: RollbackPoints
    _saved_tensors: Mapping[str, Any] | None
    """What a checkpoint held of snapshots and of an open window, between its loading and the start of training."""
    _silence: Silence
    _after_validation: bool

    def _prepare(self, settings: Mapping[str, Any]) -> None:
        self._saved_tensors = None
        problems = problems_of_written_fallback(settings, self.name)
        try:
            super()._prepare(settings)
        except ConfigError as error:
            raise ConfigError([*error.problems, *problems]) from None
        if problems:
            raise ConfigError(problems)

    def make_brain(self, settings: Any) -> LearningRateBrain:
        return LearningRateBrain(settings, written=self._written)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._follow_settings(trainer)
        was_annealing = self.brain.state.phase == "annealing"
        self.brain.begin(
            step=trainer.global_step,
            horizon_steps=self.session.length.steps,
            rates=[rate for rates in self.session.rate.scheduled for rate in rates],
            one_objective=len(trainer.optimizers) == 1,
        )
        if len(trainer.optimizers) > 1:
            self.note(trainer, SEVERAL_OPTIMIZERS)
        if was_annealing and self.brain.state.phase == "running":
            self.note(trainer, goes_on_for_longer(self.brain.factor))
        saved, self._saved_tensors = self._saved_tensors, None
        if trainer.global_step == 0:
            self._readings.read_alignment(wanted=self.brain.wants_alignment(0))
        elif saved is not None:
            self._readings.load_tensors(trainer, saved["window"])
        if self.settings.dry_run:
            return
        self._begin_snapshots(trainer, pl_module, saved)
        if self._retired and self.settings.fallback:
            self.continue_fallback(trainer)
        else:
            self.session.rate.set_factor(FACTOR_NAME, self.brain.factor)

    def after_batch(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        if self.settings.monitor_loss:
            self._readings.losses.add(trainer, outputs)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.active and self._readings.reads_alignment:
            self._guarded(trainer, self._readings.before_step, trainer)

    def period_steps(self) -> int | None:
        return WINDOW_STEPS

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._awake and self._retired:
            self._guarded(trainer, self.judge_fallback, trainer)
        elif self._awake and self.settings.monitor_validation:
            self._after_validation = True
            self.decision_point(trainer, pl_module)
            self._after_validation = False

    def read(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, float]:
        if self._after_validation:
            return {"metric": self._metric.read(trainer)}
        return self._readings.take()

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        what_holds_it_back = WhatHoldsItBack(self.brain.state)
        window: Mapping[str, Any] = {}
        if not self._after_validation:
            window = {
                "rates": [rate for rates in self.session.rate.scheduled for rate in rates],
                "losses": self._readings.losses_of(readings),
                "alignments": self._readings.alignments_of(readings),
                "can_go_back": self._points.available,
            }
        adjustment = self.brain.observe(
            step=trainer.global_step,
            epoch=trainer.current_epoch,
            loss=readings["loss"],
            non_finite=readings["non_finite"],
            metric=readings["metric"],
            mode=self._metric.direction or "min",
            **window,
        )
        if adjustment is not None:
            self.adjust(trainer, adjustment, lambda: self._apply(trainer, adjustment))
        if self.active and not self._after_validation:
            self._end_window(trainer, pl_module)
        for words in what_holds_it_back.words(self.brain.state, self.effective_settings):
            self.note(trainer, words)
        self._tell_of_silence(trainer, readings)

    def hear(self, trainer: Trainer, event: Event) -> None:
        self._readings.clear()
        self.brain.start_anew(trainer.global_step)

    def bring_back(self, trainer: Trainer) -> bool:
        if self.settings.dry_run or not self._points.available:
            return False
        adjustment = self.brain.give_up_on(trainer.global_step, trainer.current_epoch)
        if adjustment is None:
            return False
        self.adjust(trainer, adjustment, lambda: self._apply(trainer, adjustment))
        return True

    def _budget_used_up(self) -> bool:
        # The anneal is one adjustment, recorded as it begins: as the last of the budget it is carried to its end.
        last = next(reversed(self.adjustments), None)
        return super()._budget_used_up() and not (last is not None and last.reason is Reason.ANNEALING)

    @property
    def tries_rates(self) -> bool:
        return self.active and not self.settings.dry_run and self.brain.state.phase in ("trial", "annealing")

    @property
    def can_bring_back(self) -> bool:
        return self.active and not self.settings.dry_run and self._points.available and self.brain.may_go_back

    def free_memory(self) -> None:
        self._readings.read_alignment(wanted=False)
        self._points = RollbackPoints("none")

    def values(self) -> Mapping[str, float]:
        rates = [rate for group_rates in self.session.rate.effective for rate in group_rates]
        scheduled = [rate for group_rates in self.session.rate.scheduled for rate in group_rates]
        return {
            "factor": self.brain.factor,
            "learning_rate": rates[0] if rates else math.nan,
            "scheduled_learning_rate": scheduled[0] if scheduled else math.nan,
            "smoothed_loss": self.brain.smoothed_loss,
        }

    def summary(self) -> str:
        return f"factor {self.brain.factor:.4g}"

    def extra_state(self) -> dict[str, Any]:
        return {
            "window": self._readings.state_dict(),
            "metric": self._metric.name,
            "direction": self._metric.direction,
            **self.schedule_state(),
            "silent_decisions": self._silence.decisions,
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self._readings = RateReadings(**state.get("window", {}))
        self._metric = ValidationMetric(self.settings, state.get("metric"), state.get("direction"))
        self._points = RollbackPoints(self.settings.snapshots)
        self.load_schedule_state(state)
        self._silence = Silence(state.get("silent_decisions", 0))
        self._after_validation = False

    # Lightning's hooks -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        points, window = self._points.state_dict(), self._readings.tensors()
        if points or window:
            checkpoint[TENSORS_KEY] = {"points": points, "window": window}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved_tensors = checkpoint.get(TENSORS_KEY)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _begin_snapshots(self, trainer: Trainer, pl_module: LightningModule, saved: Mapping[str, Any] | None) -> None:
        if self._retired:
            return
        told = self._points.begin(trainer, pl_module, saved["points"] if saved else None)
        if told is not None:
            self.note(trainer, told)

    def _apply(self, trainer: Trainer, adjustment: Adjustment) -> None:
        """Go back where the brain says so, and write the factor."""
        if self.brain.goes_back or self.brain.takes_back:
            move = self._points.bring_back if self.brain.goes_back else self._points.take_back
            step = move(trainer, trainer.lightning_module)
            self._readings.clear()
            self.session.announce(trainer, Event(kind=EventKind.ROLLED_BACK, step=step), source=self)
        self.session.rate.set_factor(FACTOR_NAME, self.brain.factor)
        ratio = float(adjustment.new or 1.0) / float(adjustment.old or 1.0)
        if ratio != 1.0:
            event = Event(kind=EventKind.RATE_CHANGED, step=trainer.global_step, ratio=ratio)
            self.session.announce(trainer, event, source=self)

    def _end_window(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a window's decision: what the next one needs, and a snapshot where one is due."""
        self._readings.read_alignment(wanted=self.brain.wants_alignment(trainer.global_step))
        if self.settings.dry_run:
            return
        self.session.rate.set_factor(FACTOR_NAME, self.brain.factor)
        if self.brain.wants_snapshot:
            self._points.keep(trainer, pl_module, interval_steps=self.effective_settings.snapshot_interval_steps)

    def _tell_of_silence(self, trainer: Trainer, readings: Mapping[str, float]) -> None:
        known = self._metric.name is not None or len(self._readings.losses) > 0
        something_read = known or math.isfinite(readings["loss"]) or readings["non_finite"] > 0
        validates = self.settings.monitor_validation and trainer.enable_validation
        if self._silence.is_to_be_told(
            something_read=something_read, validated=self._after_validation, validates=validates
        ):
            self.note(trainer, NOTHING_READ)

    def _follow_settings(self, trainer: Trainer) -> None:
        if self._metric.follow_settings():
            self.brain.start_anew(trainer.global_step)
