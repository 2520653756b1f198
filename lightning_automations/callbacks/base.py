"""What all automations share: when they are quiet, how they fail, retire, record, agree and resume.

An automation is a brain (``core/``) and a callback. The callback overrides methods of ``AutomationSurface``; everything
around them is here, once.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.deciding import DecidingAutomation
from lightning_automations.callbacks.declaration import refuse_unfit_class
from lightning_automations.callbacks.final_report import refuse_report_without_packages
from lightning_automations.callbacks.namespaces import CALLBACK_BASES
from lightning_automations.callbacks.recording import Recorder
from lightning_automations.callbacks.session import FitSession, automations_of
from lightning_automations.core.decision import Adjustment
from lightning_automations.core.documentation import constructor_docstring
from lightning_automations.lightning_internals import logs_are_due

__all__ = ["AutomationCallback"]

_SHOWN = 500
"""Characters of what is wrong with a checkpoint's state: it may be anything."""
_BOUND_TO_ONE_RUN = ("log", "log_dict", "_trainer", "_session", "_recorder")


class AutomationCallback(DecidingAutomation, *CALLBACK_BASES):  # type: ignore[misc]
    """The frame in which one automation works. Not used by itself.

    Args:
        settings: Keyword settings of the automation, as in its settings class.

    Raises:
        ConfigError: Lists every unknown name and every value that is wrong.

    Attributes:
        settings: What was written, with defaults for the rest; frozen.
        effective_settings: The settings after the defaults were fitted to the length of the run.
        adjustments: What was changed so far, oldest first, the last 1,000 of it.
        retired: Whether the automation has handed over to its fallback.
    """

    # Construction ----------------------------------------------------------------------------------------------------

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_unfit_class(cls)
        cls.metrics_name = cls.metrics_name or cls.settings_class.names()[1]

        def constructor(self: AutomationCallback, **settings: Any) -> None:
            AutomationCallback.__init__(self, **settings)

        # Editors, help() and LightningCLI see the settings as keyword arguments, from their one declaration.
        constructor.__signature__ = cls.settings_class.signature()  # type: ignore[attr-defined]
        constructor.__doc__ = constructor_docstring(cls.settings_class, "Takes every setting by name.")
        cls.__init__ = constructor  # type: ignore[method-assign]

    def __init__(self, **settings: Any) -> None:
        # Lightning's Callback has no constructor; what stands behind it in a subclass may ask for arguments of its own.
        self._prepare(settings)

    def _prepare(self, settings: Mapping[str, Any]) -> None:
        self.settings = self.settings_class.from_mapping(settings)
        self.effective_settings = self.settings
        self._written = self.settings_class.names_written(settings)
        self._awake = False
        self._trainer: weakref.ref[Trainer] | None = None
        self._session: FitSession | None = None
        self._recorder = Recorder(self.settings, self.metrics_name)
        self._state_waits = False
        self._start_afresh()

    # Lightning's hooks -----------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if self.settings.enabled:
            refuse_report_without_packages(self.settings)
        known = self._trainer() if self._trainer is not None else None
        if known is not trainer and not self._state_waits:
            self._start_afresh()
        self._trainer = weakref.ref(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._state_waits = False
        if not self.settings.enabled or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._join_session(trainer)
        self.effective_settings = self.settings.fitted(self.session.length, self._written)
        self._step = trainer.global_step
        self._awake = True
        self._recorder.open(trainer, self.session, effective=self.effective_settings, retired=self._retired)
        self._guarded(trainer, self._renew_brain)
        if self._failure is None:
            self._guarded(trainer, self.begin, trainer, pl_module)
        if not self._retired and self._budget_used_up():
            self.retire(trainer, self._budget_message())
        self._publish(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._awake:
            return
        if self.active:
            self._guarded(trainer, self.after_batch, trainer, pl_module, outputs, batch)
        elif self._retired and not self.settings.dry_run:
            self._guarded(trainer, self.after_batch_retired, trainer, pl_module)
        self._guarded(trainer, self.session.rate.refresh)
        previous, self._step = self._step, trainer.global_step
        period = self.period_steps()
        if period is not None and self._step // period != previous // period:
            self.decision_point(trainer, pl_module)
        if (trainer.loggers or self.settings.progress_bar) and logs_are_due(trainer):
            self._guarded(trainer, self._recorder.log_values, trainer, self._values(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._finish(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._finish(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        trainer = self._trainer() if self._trainer is not None else None
        # A checkpoint without our state is better than none.
        return self._state() if trainer is None else self._guarded(trainer, self._state) or {}

    def _state(self) -> dict[str, Any]:
        if self._session is not None:
            self.rate_state = self._session.rate.state_dict()
        return {
            "rate": self.rate_state,
            "brain": self.brain.state_dict(),
            "extra": self.extra_state(),
            "adjustments": [adjustment.as_dict() for adjustment in self._adjustments],
            "changes_counted": self._changes_counted,
            "retired": self._retired,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        try:
            self._load_state(state_dict)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            self._start_afresh()
            raise ValueError(
                f"the state of {self.name} in this checkpoint is damaged or of another version: expected what its "
                f"state_dict() gives, got {type(error).__name__}: {str(error)[:_SHOWN]}. To resume without it, take "
                f"{self.name} out of the callbacks; to start it afresh, delete callbacks[{self.state_key!r}]."
            ) from error

    def _load_state(self, state_dict: Mapping[str, Any]) -> None:
        self._start_afresh()
        self.brain.load_state_dict(state_dict["brain"])
        self.load_extra_state(state_dict["extra"])
        self._adjustments.extend(Adjustment.from_dict(values) for values in state_dict["adjustments"])
        self._changes_counted = int(state_dict["changes_counted"])
        self._retired = bool(state_dict["retired"])
        self.rate_state = dict(state_dict["rate"])
        self._state_waits = True

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in _BOUND_TO_ONE_RUN}
        recorder = Recorder(self.settings, self.metrics_name)
        return {**kept, "_trainer": None, "_session": None, "_recorder": recorder, "_awake": False}

    def _join_session(self, trainer: Trainer) -> None:
        session = next((item._session for item in automations_of(trainer) if item._session is not None), None)
        self._session = session or FitSession(trainer)

    def _renew_brain(self) -> None:
        """The same history, under the settings that were fitted to the run."""
        state = self.brain.state_dict()
        self.brain = self.make_brain(self.effective_settings)
        self.brain.load_state_dict(state)

    def _finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._session is None:
            return
        if self._awake:
            self._guarded(trainer, self.end, trainer, pl_module)
            self._report_end(trainer)
        self._awake = False
        self.session.leave(self.settings)
        self.rate_state = self.session.rate.state_dict()
        self._session = None

    def _report_end(self, trainer: Trainer) -> None:
        summary = "failed" if self._failure is not None else self._guarded(trainer, self.summary)
        self._recorder.end(trainer, adjustments=self._changes_counted, retired=self._retired, summary=summary)
