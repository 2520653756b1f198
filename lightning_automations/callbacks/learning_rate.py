"""The learning-rate automation: reads loss and metric, and sets its factor on the scheduled rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.fallback_checks import problems_of_written_fallback
from lightning_automations.callbacks.fallback_schedule import FallbackSchedule
from lightning_automations.callbacks.metrics import (
    direction_of,
    first_validation_loss,
    logged_names,
    not_logged,
    value_at_validation,
)
from lightning_automations.callbacks.ranks import Across, agreed
from lightning_automations.callbacks.remaining import steps_that_remain
from lightning_automations.callbacks.silence import NOTHING_READ, Silence
from lightning_automations.callbacks.surface import AutomationSurface
from lightning_automations.callbacks.training_loss import LossWindow
from lightning_automations.core.decision import Adjustment
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.events import Event, EventKind
from lightning_automations.core.learning_rate import WINDOW_STEPS, LearningRateBrain, LearningRateSettings
from lightning_automations.core.settings import AutomationSettings

__all__ = ["IntelligentLearningRateScheduler"]

FACTOR_NAME = "learning_rate"
LEFT_TO_OTHERS = (
    "another callback, the module or a new scheduler has set the learning rate; the rate is left to it, and the "
    "fallback's schedule has no effect on that optimizer any more"
)

_Direction = Literal["min", "max"]
_MODES: Mapping[str, Literal["auto", "min", "max"]] = {"auto": "auto", "min": "min", "max": "max"}


class IntelligentLearningRateScheduler(AutomationCallback):
    """Lowers the learning rate on a plateau and cuts it when training diverges, on top of any schedule.

    The rate that the optimizer uses is the scheduled rate times a factor between ``min_lr_factor`` and
    ``max_lr_factor``. The factor is halved when neither the smoothed training loss nor the validation metric has
    improved for ``plateau_patience`` steps, and when the training loss surely rises or stays non-finite. It is never
    raised. While the schedule itself rises (a warm-up, a restart) no trend is judged.

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

    settings_class: ClassVar[type[AutomationSettings]] = LearningRateSettings
    metrics_name: ClassVar[str] = "intelligent_learning_rate_scheduler"
    across: ClassVar[Mapping[str, Across]] = {"loss": Across.MEAN, "non_finite": Across.MAX, "metric": Across.MEAN}

    settings: LearningRateSettings
    effective_settings: LearningRateSettings
    brain: LearningRateBrain

    _losses: LossWindow
    _metric: str | None
    _direction: _Direction | None
    _schedule: FallbackSchedule | None
    _saved_schedule: dict[str, Any] | None
    _schedule_step: int
    _told_of_release: bool
    _silence: Silence
    _after_validation: bool

    def _prepare(self, settings: Mapping[str, Any]) -> None:
        problems = problems_of_written_fallback(settings, self.name)
        try:
            super()._prepare(settings)
        except ConfigError as error:
            raise ConfigError([*error.problems, *problems]) from None
        if problems:
            raise ConfigError(problems)

    def make_brain(self, settings: Any) -> LearningRateBrain:
        return LearningRateBrain(settings)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._follow_settings(trainer)
        if self.settings.dry_run:
            return
        if self._retired and self.settings.fallback:
            self._continue_fallback(trainer)
        else:
            self.session.rate.set_factor(FACTOR_NAME, self.brain.factor)

    def after_batch(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        if self.settings.monitor_loss:
            self._losses.add(trainer, outputs)

    def period_steps(self) -> int | None:
        return WINDOW_STEPS

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._awake and self._retired:
            self._guarded(trainer, self._judge_fallback, trainer)
        elif self._awake and self.settings.monitor_validation:
            self._after_validation = True
            self.decision_point(trainer, pl_module)
            self._after_validation = False

    def read(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, float]:
        if self._after_validation:
            return {"metric": self._read_metric(trainer)}
        return self._losses.take()

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        was_held_back = self.brain.state.held_back
        rates = [] if self._after_validation else [rate for rates in self.session.rate.scheduled for rate in rates]
        adjustment = self.brain.observe(
            step=trainer.global_step,
            epoch=trainer.current_epoch,
            loss=readings["loss"],
            non_finite=readings["non_finite"],
            metric=readings["metric"],
            mode=self._direction or "min",
            rates=rates,
        )
        if adjustment is not None:
            self.adjust(trainer, adjustment, lambda: self._set_factor(trainer, adjustment))
        elif self.brain.state.held_back and not was_held_back:
            self.note(
                trainer,
                f"the rate would be lowered further, but the factor is at min_lr_factor "
                f"({self.effective_settings.min_lr_factor}); set it lower to allow that",
            )
        self._tell_of_silence(trainer, readings)

    def hear(self, trainer: Trainer, event: Event) -> None:
        self._losses.clear()
        self.brain.start_anew(trainer.global_step)

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.settings.fallback:
            return
        rate, factor = self.session.rate, self.brain.factor
        start = [[scheduled * factor for scheduled in rates] for rates in rate.scheduled]
        if any(start):
            steps_left = steps_that_remain(trainer)
            self._schedule = FallbackSchedule(self.settings.fallback, start, steps_left=steps_left)
            self._schedule_step = trainer.global_step
            self._write_fallback()

    def after_batch_retired(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._schedule is not None and trainer.global_step > self._schedule_step:
            self._schedule.advance(trainer.global_step - self._schedule_step)
            self._schedule_step = trainer.global_step
            self._write_fallback()
        if self.session.rate.released and not self._told_of_release:
            self._told_of_release = True
            self.note(trainer, LEFT_TO_OTHERS)

    def values(self) -> Mapping[str, float]:
        rates = [rate for group_rates in self.session.rate.effective for rate in group_rates]
        return {
            "factor": self.brain.factor,
            "learning_rate": rates[0] if rates else math.nan,
            "smoothed_loss": self.brain.smoothed_loss,
        }

    def summary(self) -> str:
        return f"factor {self.brain.factor:.4g}"

    def extra_state(self) -> dict[str, Any]:
        return {
            "losses": self._losses.fetch(),
            "metric": self._metric,
            "direction": self._direction,
            "schedule": self._schedule.state_dict() if self._schedule is not None else self._saved_schedule,
            "schedule_step": self._schedule_step,
            "told_of_release": self._told_of_release,
            "silent_decisions": self._silence.decisions,
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self._losses = LossWindow(state.get("losses", ()))
        self._metric = state.get("metric")
        self._direction = state.get("direction")
        self._schedule = None
        self._saved_schedule = state.get("schedule")
        self._schedule_step = state.get("schedule_step", 0)
        self._told_of_release = state.get("told_of_release", False)
        self._silence = Silence(state.get("silent_decisions", 0))
        self._after_validation = False

    # Inside ----------------------------------------------------------------------------------------------------------

    def _set_factor(self, trainer: Trainer, adjustment: Adjustment) -> None:
        self.session.rate.set_factor(FACTOR_NAME, self.brain.factor)
        ratio = float(adjustment.new or 1.0) / float(adjustment.old or 1.0)
        event = Event(kind=EventKind.RATE_CHANGED, step=trainer.global_step, ratio=ratio)
        self.session.announce(trainer, event, source=self)

    def _tell_of_silence(self, trainer: Trainer, readings: Mapping[str, float]) -> None:
        known = self._metric is not None or len(self._losses) > 0
        something_read = known or math.isfinite(readings["loss"]) or readings["non_finite"] > 0
        validates = self.settings.monitor_validation and trainer.enable_validation
        if self._silence.is_to_be_told(
            something_read=something_read, validated=self._after_validation, validates=validates
        ):
            self.note(trainer, NOTHING_READ)

    def _read_metric(self, trainer: Trainer) -> float:
        """The validation metric, its name and direction found at the first validation; NaN where there is none."""
        if self._metric is None:
            self._metric = self._find_metric(trainer)
            if self._metric is None:
                return math.nan
            self._direction = self._find_direction(trainer, self._metric)
        value = value_at_validation(trainer, self._metric)
        return math.nan if value is None else value

    def _find_metric(self, trainer: Trainer) -> str | None:
        named, logged = self.settings.monitor_metric, logged_names(trainer)
        if named is not None:
            if named not in logged:
                raise not_logged(trainer, named, path=f"{self.name}.monitor_metric")
            return named
        stopper = trainer.early_stopping_callback
        if stopper is not None and stopper.monitor in logged:
            return stopper.monitor
        return first_validation_loss(trainer)

    def _find_direction(self, trainer: Trainer, metric: str) -> _Direction:
        try:
            return direction_of(trainer, metric, self._mode_for(trainer, metric))
        except ConfigError as error:
            raise ConfigError(problem.under(self.name) for problem in error.problems) from None

    def _mode_for(self, trainer: Trainer, metric: str) -> Literal["auto", "min", "max"]:
        """The mode that is set here, else that of a stopper that watches the same metric."""
        stopper = trainer.early_stopping_callback
        if self.settings.mode != "auto" or stopper is None or stopper.monitor != metric:
            return self.settings.mode
        # Our own stopper shows Lightning's default as long as it has not found its direction: its settings count.
        shown = vars(stopper.settings)["mode"] if isinstance(stopper, AutomationSurface) else stopper.mode
        return _MODES[shown]

    def _follow_settings(self, trainer: Trainer) -> None:
        """Settings given now win over the metric of the run that is resumed."""
        named, mode = self.settings.monitor_metric, self.settings.mode
        if self._metric is not None and (named not in (None, self._metric) or mode not in ("auto", self._direction)):
            self._metric = self._direction = None
            self.brain.start_anew(trainer.global_step)

    def _continue_fallback(self, trainer: Trainer) -> None:
        """Go on with the schedule of a run that had retired, or begin the one that is set now."""
        saved = self._saved_schedule
        if saved is None or saved["scheduler_type"] != self.settings.fallback["scheduler_type"]:
            self.apply_fallback(trainer, trainer.lightning_module)
            return
        self._schedule = FallbackSchedule.from_state(self.settings.fallback, saved)
        self._write_fallback()

    def _judge_fallback(self, trainer: Trainer) -> None:
        if self._schedule is None:
            return
        own = {"metric": self._read_metric(trainer)}
        common, _ = agreed(trainer, own, {"metric": Across.MEAN}, failed=False)
        if math.isfinite(common["metric"]):
            self._schedule.judge(common["metric"], self._direction or "min")
            self._write_fallback()

    def _write_fallback(self) -> None:
        """The fallback's rates take the place of the scheduled ones, this automation's factor is in them."""
        if self._schedule is not None:
            self.session.rate.set_factor(FACTOR_NAME, 1.0)
            self.session.rate.replace_schedule(self._schedule.rates)
