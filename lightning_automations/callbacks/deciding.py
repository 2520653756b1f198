"""How every automation decides: agree across the ranks, carry out, record, count, and retire when it has to."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_automations.callbacks.harmless import raises_errors
from lightning_automations.callbacks.ranks import agreed
from lightning_automations.callbacks.recording import Recorder
from lightning_automations.callbacks.session import FitSession
from lightning_automations.callbacks.surface import AutomationSurface
from lightning_automations.core.decision import Adjustment
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.events import Event

__all__ = ["DecidingAutomation"]

log = logging.getLogger(__name__)

ADJUSTMENTS_KEPT = 1000
"""Adjustments kept in memory and in checkpoints; the journal keeps all."""


class DecidingAutomation(AutomationSurface):
    """An automation with its history, its budget and its failures; knows nothing of Lightning's hooks."""

    _awake = False
    _session: FitSession | None = None
    _recorder: Recorder

    def _start_afresh(self) -> None:
        self.brain = self.make_brain(self.settings)
        self._adjustments: deque[Adjustment] = deque(maxlen=ADJUSTMENTS_KEPT)
        self._changes_counted = 0
        self._retired = False
        self._failure: BaseException | None = None
        self._step = 0
        self.rate_state: dict[str, Any] = {}
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
    def awake(self) -> bool:
        """Whether training runs, decisions or not."""
        return self._awake

    @property
    def session(self) -> FitSession:
        """The fit that runs now.

        Raises:
            RuntimeError: Outside of training.
        """
        if self._session is None:
            raise RuntimeError(f"{self.name} is asked for its session outside of training")
        return self._session

    # Deciding --------------------------------------------------------------------------------------------------------

    def decision_point(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read, agree across the ranks in one collective, decide. Every rank comes by here at the same step."""
        self.decide_together(trainer, pl_module, read=self.read, decide=self.decide)

    def decide_together(
        self, trainer: Trainer, pl_module: LightningModule, *, read: Callable[..., Any], decide: Callable[..., Any]
    ) -> None:
        """A decision point of another kind: ``read`` and ``decide`` as the methods of that name."""
        if not self._awake or self._retired:
            return
        readings: Mapping[str, float] = {}
        if self._failure is None:
            readings = self._guarded(trainer, read, trainer, pl_module) or {}
        if self._retired:
            return
        common, failed = agreed(trainer, readings, self.across_ranks(), failed=self._failure is not None)
        if failed:
            self.retire(trainer, self._failure_message())
            return
        self._guarded(trainer, decide, trainer, pl_module, common)
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
        self._recorder.retirement(trainer, why)
        if not self.settings.dry_run:
            self._guarded(trainer, self.apply_fallback, trainer, trainer.lightning_module)

    def receive(self, trainer: Trainer, event: Event) -> None:
        """Called by the session: hand an event to ``hear``, or to ``hear_retired`` once no decisions are made."""
        if self.active:
            self._guarded(trainer, self.hear, trainer, event)
        elif self._awake and self._retired and not self.settings.dry_run:
            self._guarded(trainer, self.hear_retired, trainer, event)

    def note(self, trainer: Trainer, message: str) -> None:
        """Tell the user something once that is neither an adjustment nor an error."""
        self._recorder.note(trainer, message)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _guarded(self, trainer: Trainer, function: Callable[..., Any], *args: Any) -> Any:
        """Call one of the automation's methods; an unexpected error retires the automation, not the run."""
        try:
            return function(*args)
        except (ConfigError, MisconfigurationException):
            raise
        except Exception as error:
            if self.settings.on_error == "raise" or raises_errors():
                raise
            self._fail(trainer, error)
            return None

    def _fail(self, trainer: Trainer, error: Exception) -> None:
        if self._failure is None or self._retired:
            log.error("%s failed; training goes on without it.", self.name, exc_info=error)
        self._failure = error
        if self._retired and self._awake:
            self._awake = False  # the fallback itself failed: there is nothing left but to take everything away
            self._guarded(trainer, self.end, trainer, trainer.lightning_module)
        elif not self._retired and trainer.world_size == 1:
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

    def _carry_out(self, trainer: Trainer, adjustment: Adjustment, apply: Callable[[], None]) -> None:
        if not self.settings.dry_run:
            apply()
        self._adjustments.append(adjustment)
        self._recorder.adjustment(trainer, adjustment)

    def _publish(self, trainer: Trainer) -> None:
        self._guarded(trainer, self._recorder.publish, trainer, self._values(trainer))

    def _values(self, trainer: Trainer) -> Mapping[str, float]:
        return {} if self._failure is not None else self._guarded(trainer, self.values) or {}
