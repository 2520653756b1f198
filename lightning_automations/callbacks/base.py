"""What all automations share: when they are quiet, how they fail, retire, record, agree and resume.

An automation is a brain (``core/``) and a callback. The callback overrides the five methods in the first section of
``AutomationCallback``; everything around them is here, once:

* ``begin``: training starts; put in place what is needed.
* ``after_batch``: a training batch is done; keep readings, on the device.
* ``read`` and ``decide``: a decision is due; hand numbers to the brain, carry out what it says through ``adjust``.
* ``apply_fallback``: the automation retires.
"""

from __future__ import annotations

import inspect
import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_automations.callbacks.journal import Journal, journal_path
from lightning_automations.callbacks.namespaces import CALLBACK_BASES
from lightning_automations.callbacks.session import Across, FitSession, agreed
from lightning_automations.core.decision import Adjustment, Brain, describe
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.events import Event
from lightning_automations.core.settings import AutomationSettings, RunLength
from lightning_automations.lightning_internals import logging_step, logs_are_due

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback as _Callback
else:
    _Callback = object

__all__ = ["AutomationCallback", "run_length"]

log = logging.getLogger(__name__)

ON_ERROR_VARIABLE = "LIGHTNING_AUTOMATIONS_ON_ERROR"
ADJUSTMENTS_KEPT = 1000
"""Adjustments kept in memory and in checkpoints; the journal keeps all."""

_BOUND_TO_ONE_RUN = ("log", "log_dict", "_trainer", "_session", "_journal")


class AutomationCallback(*CALLBACK_BASES):  # type: ignore[misc]
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

    settings_class: ClassVar[type[AutomationSettings]] = AutomationSettings
    metrics_name: ClassVar[str] = ""
    """The middle part of the names under which values are logged."""
    across: ClassVar[Mapping[str, Across]] = {}
    """The readings of one decision, and how those of several ranks become one."""

    settings: AutomationSettings
    effective_settings: AutomationSettings

    # What an automation overrides ------------------------------------------------------------------------------------

    def make_brain(self, settings: AutomationSettings) -> Brain:
        """The decision class, without history."""
        raise TypeError(f"{type(self).__name__} has no brain")

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training starts, or starts again from a checkpoint; ``self.brain`` and ``self.retired`` are as saved."""

    def after_batch(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> None:
        """One training batch is done. Reads nothing back from the device."""

    def after_batch_retired(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One training batch is done after the retirement: only what the fallback needs."""

    def period_steps(self) -> int | None:
        """Optimizer steps between decisions, or None when the automation calls ``decision_point`` itself."""
        return None

    def read(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, float]:
        """This rank's readings for one decision, by the names in ``across``."""
        return {}

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        """Ask the brain and carry out what it says through ``adjust``. Runs on all ranks with the same readings."""

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put in place what holds from now on."""

    def values(self) -> Mapping[str, float]:
        """What is logged: names and numbers, the same names from the first step on."""
        return {}

    def hear(self, trainer: Trainer, event: Event) -> None:
        """Another automation changed something that bears on what this one has seen."""

    def end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training is over, or was interrupted; put back what was put in place."""

    def summary(self) -> str:
        """What the automation leaves behind, for its last line in the log."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.values().items())

    def extra_state(self) -> dict[str, Any]:
        """What must survive a checkpoint besides the brain, as JSON-able values."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up what ``extra_state`` gave; an empty mapping when nothing was saved."""

    # Construction ----------------------------------------------------------------------------------------------------

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

        def __init__(self: AutomationCallback, **settings: Any) -> None:
            AutomationCallback.__init__(self, **settings)

        # Editors, help() and LightningCLI see the settings as keyword arguments, from their one declaration.
        __init__.__signature__ = _constructor_signature(cls.settings_class)  # type: ignore[attr-defined]
        cls.__init__ = __init__  # type: ignore[method-assign]

    def __init__(self, **settings: Any) -> None:
        # Lightning's Callback has no constructor; what stands behind it in a subclass may ask for arguments of its own.
        self._prepare(settings)

    def _prepare(self, settings: Mapping[str, Any]) -> None:
        self.settings = self.settings_class.from_mapping(settings)
        self.effective_settings = self.settings
        self._written = frozenset(settings)
        self._awake = False
        self._trainer: weakref.ref[Trainer] | None = None
        self._session: FitSession | None = None
        self._journal = Journal(None, run="")
        self._state_waits = False
        self._start_afresh()

    def _start_afresh(self) -> None:
        self.brain = self.make_brain(self.settings)
        self._adjustments: deque[Adjustment] = deque(maxlen=ADJUSTMENTS_KEPT)
        self._changes_counted = 0
        self._retired = False
        self._failure: BaseException | None = None
        self._step = 0
        self._rate_state: dict[str, Any] = {}
        self.load_extra_state({})

    # What users read -------------------------------------------------------------------------------------------------

    @property
    def adjustments(self) -> list[Adjustment]:
        """What was changed so far, oldest first."""
        return list(self._adjustments)

    @property
    def retired(self) -> bool:
        """Whether the automation has handed over to its fallback."""
        return self._retired

    @property
    def name(self) -> str:
        """The automation's name in the YAML."""
        return self.settings_class.automation

    @property
    def state_key(self) -> str:
        """Under which name a checkpoint keeps the state: the automation's name alone, whatever its settings."""
        return self.name

    @property
    def active(self) -> bool:
        """Whether decisions are made: training runs, nothing has failed, the budget is not used up."""
        return self._awake and not self._retired and self._failure is None

    @property
    def session(self) -> FitSession:
        """The fit that runs now.

        Raises:
            RuntimeError: Outside of training.
        """
        if self._session is None:
            raise RuntimeError(f"{self.name} is asked for its session outside of training")
        return self._session

    # Lightning's hooks -----------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        known = self._trainer() if self._trainer is not None else None
        if known is not trainer and not self._state_waits:
            self._start_afresh()
        self._trainer = weakref.ref(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._state_waits = False
        if not self.settings.enabled or trainer.fast_dev_run:
            return
        if self._session is None:
            self._open_session(trainer)
        self._fit_to_run(trainer)
        path = journal_path(self.settings.journal, log_dir=self.session.log_dir, has_logger=self.session.has_logger)
        self._journal = Journal(path if trainer.is_global_zero else None, run=self.session.run)
        self._step = trainer.global_step
        self._awake = True
        self._write(trainer, "start", dry_run=self.settings.dry_run, retired=self._retired)
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
        self.session.rate.refresh()
        previous, self._step = self._step, trainer.global_step
        period = self.period_steps()
        if period is not None and self._step // period != previous // period:
            self.decision_point(trainer, pl_module)
        if trainer.loggers and logs_are_due(trainer):
            self._log_values(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._finish(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._finish(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        if self._session is not None:
            self._rate_state = self._session.rate.state_dict()
        return {
            "rate": self._rate_state,
            "brain": self.brain.state_dict(),
            "extra": self.extra_state(),
            "adjustments": [adjustment.as_dict() for adjustment in self._adjustments],
            "changes_counted": self._changes_counted,
            "retired": self._retired,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._start_afresh()
        self.brain.load_state_dict(state_dict["brain"])
        self.load_extra_state(state_dict["extra"])
        self._adjustments.extend(Adjustment.from_dict(values) for values in state_dict["adjustments"])
        self._changes_counted = int(state_dict["changes_counted"])
        self._retired = bool(state_dict["retired"])
        self._rate_state = dict(state_dict["rate"])
        self._state_waits = True

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in _BOUND_TO_ONE_RUN}
        return {**kept, "_trainer": None, "_session": None, "_journal": Journal(None, run=""), "_awake": False}

    # Deciding --------------------------------------------------------------------------------------------------------

    def decision_point(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read, agree across the ranks in one collective, decide. Every rank comes by here at the same step."""
        if not self._awake or self._retired:
            return
        readings: Mapping[str, float] = {}
        if self._failure is None:
            readings = self._guarded(trainer, self.read, trainer, pl_module) or {}
        if self._retired:
            return
        common, failed = agreed(trainer, readings, self.across, failed=self._failure is not None)
        if failed:
            self.retire(trainer, self._failure_message())
            return
        self._guarded(trainer, self.decide, trainer, pl_module, common)
        self._publish(trainer)

    def adjust(self, trainer: Trainer, adjustment: Adjustment, apply: Callable[[], None]) -> None:
        """Carry out one adjustment unless this is a dry run, record it, and count it against the budget."""
        self._carry_out(trainer, adjustment, apply)
        self._changes_counted += 1
        if self._budget_used_up():
            self.retire(trainer, self._budget_message())

    def recover(self, trainer: Trainer, adjustment: Adjustment, apply: Callable[[], None]) -> None:
        """As ``adjust``, for what is always allowed and not counted."""
        self._carry_out(trainer, adjustment, apply)

    def retire(self, trainer: Trainer, why: str) -> None:
        """Hand over to the fallback, once, and say so."""
        if self._retired:
            return
        self._retired = True
        if trainer.is_global_zero:
            log.warning("%s retires at step %d: %s", self.name, trainer.global_step, why)
        self._write(trainer, "retired", why=why, fallback=dict(self.settings.fallback))
        if not self.settings.dry_run:
            self._guarded(trainer, self.apply_fallback, trainer, trainer.lightning_module)

    def receive(self, trainer: Trainer, event: Event) -> None:
        """Called by the session: hand an event to ``hear`` as long as decisions are made."""
        if self.active:
            self._guarded(trainer, self.hear, trainer, event)

    def note(self, trainer: Trainer, message: str) -> None:
        """Tell the user something once that is neither an adjustment nor an error."""
        if trainer.is_global_zero:
            log.info("%s: %s", self.name, message)
        self._write(trainer, "note", message=message)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _guarded(self, trainer: Trainer, function: Callable[..., Any], *args: Any) -> Any:
        """Call one of the automation's methods; an unexpected error retires the automation, not the run."""
        try:
            return function(*args)
        except (ConfigError, MisconfigurationException):
            raise
        except Exception as error:
            if "raise" in (self.settings.on_error, os.environ.get(ON_ERROR_VARIABLE)):
                raise
            self._fail(trainer, error)
            return None

    def _fail(self, trainer: Trainer, error: Exception) -> None:
        log.error("%s failed; training goes on without it.", self.name, exc_info=error)
        self._failure = error
        if self._retired:
            self._awake = False  # the fallback itself failed: there is nothing left to fall back to
        elif trainer.world_size == 1:
            self.retire(trainer, self._failure_message())

    def _failure_message(self) -> str:
        if self._failure is None:
            return "it failed on another rank; see the log of that rank"
        return f"unexpected {type(self._failure).__name__}: {self._failure}"

    def _budget_used_up(self) -> bool:
        limit = self.effective_settings.max_adjustments
        return limit is not None and self._changes_counted >= limit

    def _budget_message(self) -> str:
        return f"its budget of {self.effective_settings.max_adjustments} adjustments is used up (max_adjustments)"

    def _open_session(self, trainer: Trainer) -> None:
        automations = [
            callback
            for callback in trainer.callbacks
            if isinstance(callback, AutomationCallback) and callback.settings.enabled
        ]
        session = FitSession(trainer, automations)
        # All of one checkpoint saved the same; an automation that is new in this run has nothing.
        session.rate.load_state_dict(next((item._rate_state for item in automations if item._rate_state), {}))
        for automation in automations:
            automation._session = session

    def _fit_to_run(self, trainer: Trainer) -> None:
        self.effective_settings = self.settings.fitted(run_length(trainer), self._written)
        state = self.brain.state_dict()
        self.brain = self.make_brain(self.effective_settings)
        self.brain.load_state_dict(state)
        shortened = [
            f"{name} {getattr(self.settings, name)} -> {getattr(self.effective_settings, name)}"
            for name in self.settings_class.types()
            if getattr(self.settings, name) != getattr(self.effective_settings, name)
        ]
        if shortened and trainer.is_global_zero:
            log.info("%s: defaults shortened to fit this run: %s", self.name, ", ".join(shortened))

    def _carry_out(self, trainer: Trainer, adjustment: Adjustment, apply: Callable[[], None]) -> None:
        if not self.settings.dry_run:
            apply()
        self._adjustments.append(adjustment)
        if trainer.is_global_zero:
            log.info("%s%s", "(dry run) " if self.settings.dry_run else "", describe(adjustment))
        details = {name: value for name, value in adjustment.as_dict().items() if name != "automation"}
        self._write(trainer, "adjustment", **details, applied=not self.settings.dry_run)

    def _write(self, trainer: Trainer, event: str, **details: Any) -> None:
        details.setdefault("step", trainer.global_step)
        self._journal.write(event, self.name, details)

    def _publish(self, trainer: Trainer) -> None:
        values = self._named_values(trainer)
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})

    def _log_values(self, trainer: Trainer) -> None:
        values = self._named_values(trainer)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=logging_step(trainer))

    def _named_values(self, trainer: Trainer) -> dict[str, float]:
        if self._failure is not None:
            return {}
        values = self._guarded(trainer, self.values) or {}
        return {f"automation/{self.metrics_name}/{name}": value for name, value in values.items()}

    def _finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._session is None:
            return
        if self._awake:
            self._guarded(trainer, self.end, trainer, pl_module)
            self._report_end(trainer)
        self._awake = False
        if not any(automation._awake for automation in self.session.automations):
            self.session.close()
        self._rate_state = self.session.rate.state_dict()
        self._session = None

    def _report_end(self, trainer: Trainer) -> None:
        summary = "failed" if self._failure is not None else self._guarded(trainer, self.summary)
        made = f"{self._changes_counted} adjustment(s)" + (" (dry run)" if self.settings.dry_run else "")
        if trainer.is_global_zero:
            log.info("%s: %s%s; %s", self.name, "retired; " if self._retired else "", made, summary)
        self._write(trainer, "end", adjustments=self._changes_counted, retired=self._retired, summary=summary)


def _constructor_signature(settings: type[AutomationSettings]) -> inspect.Signature:
    """Of a constructor that takes every setting by keyword, with its type and default."""
    defaults = settings()
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=getattr(defaults, name))
        for name, hint in settings.types().items()
    ]
    return inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *parameters])


def run_length(trainer: Trainer) -> RunLength:
    """The length of the fit as far as it is known; asking may load the training data, as Lightning's own users do."""
    steps = trainer.estimated_stepping_batches
    epochs = trainer.max_epochs
    return RunLength(
        steps=int(steps) if steps != float("inf") else None,
        epochs=epochs if epochs is not None and epochs > 0 else None,
    )
