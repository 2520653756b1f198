"""The first steps of a fit: attempts at the given rate and lower ones, each from the weights of the start."""

from __future__ import annotations

import math

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.progress import WINDOW_STEPS
from lightning_automations.core.rate_changes import RateChanges
from lightning_automations.core.rate_evidence import usual_noise_of
from lightning_automations.core.rate_trial import Attempt, Verdict, attempt_of, verdict_of

__all__ = ["RateStart"]

_LOWER_AT_START = 0.3
_LOWER_AFTER_EXPLOSION = 0.1


class RateStart(RateChanges):
    """Carries out what ``rate_trial`` says of an attempt."""

    is_healthy = False
    """Whether nothing in the last window spoke against the weights."""

    def _try(self, step: int, epoch: int) -> Adjustment | None:
        state = self.state
        if state.start_loss is None:
            state.start_loss = state.losses[0]
        if len(state.losses) < WINDOW_STEPS and not state.alignments:
            return None
        attempt = attempt_of(state.losses, start_loss=state.start_loss)
        before = self._attempt_before()
        points_on = self._points_on()
        verdict = verdict_of(state.losses, attempt, start_loss=state.start_loss, points_on=points_on, before=before)
        if verdict is Verdict.ACCEPT or (verdict is Verdict.LOWER and state.factor <= self._settings.min_lr_factor):
            return self._accept(step, epoch, attempt)
        if verdict is Verdict.COME_BACK:
            self._end_trial(attempt)
            factor = state.tried_factor or state.factor
            return self._go_back(step, epoch, factor, Reason.NO_BETTER_RATE, self._numbers(attempt))
        if verdict is Verdict.LOWER:
            return self._try_lower(step, epoch, attempt)
        return None

    def _attempt_before(self) -> Attempt | None:
        state = self.state
        if state.tried_factor is None:
            return None
        return Attempt(level=state.tried_level, error=state.tried_error, exploded=state.tried_exploded)

    def _accept(self, step: int, epoch: int, attempt: Attempt) -> Adjustment | None:
        self._end_trial(attempt)
        self.is_healthy = True
        return self._raise(step, epoch)

    def _end_trial(self, attempt: Attempt) -> None:
        state = self.state
        state.phase = "running"
        state.start_noise = usual_noise_of(state.losses)
        state.start_loss = attempt.level if state.start_loss is None else max(state.start_loss, attempt.level)

    def _try_lower(self, step: int, epoch: int, attempt: Attempt) -> Adjustment | None:
        state = self.state
        if not self._can_go_back:
            self._end_trial(attempt)
            return None
        state.tried_factor, state.tried_exploded = state.factor, attempt.exploded
        state.tried_level, state.tried_error = attempt.level, attempt.error
        share = _LOWER_AFTER_EXPLOSION if attempt.exploded else _LOWER_AT_START
        return self._go_back(step, epoch, state.factor * share, Reason.START_NOT_FALLING, self._numbers(attempt))

    def _numbers(self, attempt: Attempt) -> dict[str, float]:
        return {"loss": attempt.level, "start_loss": self.state.start_loss or math.nan, "noise": attempt.error}
