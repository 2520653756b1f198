"""The first steps of a fit: attempts at the given rate and lower ones, each from the weights of the start."""

from __future__ import annotations

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.progress import WINDOW_STEPS
from lightning_automations.core.rate_changes import RateChanges
from lightning_automations.core.rate_trial import Attempt, Verdict, attempt_of, verdict_of
from lightning_automations.core.statistics import mean

__all__ = ["RateStart"]

_LOWER_AT_START = 0.3
_LOWER_AFTER_EXPLOSION = 0.1


class RateStart(RateChanges):
    """Carries out what ``rate_trial`` says of an attempt."""

    is_healthy = False
    """Whether nothing in the last window spoke against the weights."""

    def _try(self, step: int, epoch: int) -> Adjustment | None:
        state = self.state
        self._see_start()
        if len(state.losses) < WINDOW_STEPS and not state.alignments:
            return None
        start_loss, before = mean(state.start_losses), self._attempt_before()
        verdict = verdict_of(state.losses, start_loss=start_loss, points_on=self._points_on(), before=before)
        if verdict is Verdict.ACCEPT or (verdict is Verdict.LOWER and state.factor <= self._settings.min_lr_factor):
            return self._accept(step, epoch)
        attempt = attempt_of(state.losses)
        if verdict is Verdict.COME_BACK:
            self._end_trial()
            factor = state.tried_factor or state.factor
            return self._go_back(step, epoch, factor, Reason.NO_BETTER_RATE, self._numbers(attempt))
        if verdict is Verdict.LOWER:
            return self._try_lower(step, epoch, attempt)
        return None

    def _see_start(self) -> None:
        """The first loss of each attempt is one of the start: the more of them, the less one odd batch weighs."""
        state = self.state
        if not state.sees_start:
            state.start_losses = (*state.start_losses, state.losses[0])
            state.sees_start = True

    def _attempt_before(self) -> Attempt | None:
        state = self.state
        return None if state.tried_factor is None else Attempt(level=state.tried_level, noise=state.tried_noise)

    def _accept(self, step: int, epoch: int) -> Adjustment | None:
        state, before = self.state, self._attempt_before()
        if before is not None and state.tried_factor and before.has_exploded(mean(state.start_losses)):
            self._stay_below(state.tried_factor)
        self._end_trial()
        self.is_healthy = True
        return self._raise(step, epoch)

    def _end_trial(self) -> None:
        state, attempt = self.state, attempt_of(self.state.losses)
        state.phase = "running"
        state.start_loss, state.start_noise = max(mean(state.start_losses), attempt.level), attempt.noise

    def _try_lower(self, step: int, epoch: int, attempt: Attempt) -> Adjustment | None:
        state = self.state
        if not self._can_go_back:
            self._end_trial()
            return None
        state.tried_factor, state.tried_level, state.tried_noise = state.factor, attempt.level, attempt.noise
        state.sees_start = False
        exploded = not state.start_losses or attempt.has_exploded(mean(state.start_losses))
        share = _LOWER_AFTER_EXPLOSION if exploded else _LOWER_AT_START
        return self._go_back(step, epoch, state.factor * share, Reason.START_NOT_FALLING, self._numbers(attempt))

    def _numbers(self, attempt: Attempt) -> dict[str, float]:
        evidence = {"loss": attempt.level, "noise": attempt.noise}
        return {**evidence, "start_loss": mean(self.state.start_losses)} if self.state.start_losses else evidence
