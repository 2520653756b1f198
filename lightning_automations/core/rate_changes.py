"""How the factor on the learning rate is changed, by whatever part of the brain: bounds, memory, and raising."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.learning_rate_state import LearningRateState
from lightning_automations.core.progress import Progress
from lightning_automations.core.rate_evidence import alignment_of, slope_of

__all__ = ["RateChanges"]

_RAISE = 3.0
# A rate that blew up is not reached again, unless it is the lowest one.
_LIMIT_BELOW_DIVERGENCE = 0.6
# Cosines of gradient and way gone: far from 0 beyond their noise. Small ones count too, where noise is large.
_LEAST_COSINE = 0.02
_LEAST_DEVIATIONS = 3.5
_SURELY_NEGATIVE_DEVIATIONS = -2.0
# Above this share of the run a raise comes too late to pay.
_RAISING_SHARE = 0.6
# So many losses whose slope is not surely negative: the loss is too noisy to tell.
_STEPS_OF_UNDECIDED_LOSS = 40
_UNDECIDED_SLOPE = -2.0


class RateChanges:
    """The factor, what was read under it, and its changes.

    Args:
        settings: The settings, fitted to the run.
        written: Names of the settings that the user wrote. A ``plateau_patience`` that is written holds as it is.
    """

    def __init__(self, settings: LearningRateSettings, *, written: Collection[str] = ()) -> None:
        self._settings = settings
        self._horizon_steps: int | None = None
        self._can_go_back = False
        self._one_objective = True
        self.state = LearningRateState()
        self.progress = Progress(settings, patience_grows="plateau_patience" not in written)
        self.goes_back = False
        """Whether the weights have to go back to the snapshot with what ``observe`` returned."""
        self.takes_back = False
        """Whether going back was a mistake, and the weights of before it hold again."""

    # Raising ---------------------------------------------------------------------------------------------------------

    def _raise(self, step: int, epoch: int) -> Adjustment | None:
        state = self.state
        alignment = alignment_of(state.alignments)
        if alignment is None or not self._may_raise(step) or self.progress.metric_forbids_raising():
            return None
        evidence = {"cosine": alignment.cosine, "deviations": alignment.deviations}
        if self._points_on():
            return self._change(step, epoch, state.factor * _RAISE, Reason.GRADIENT_POINTS_ON, evidence)
        undecided = len(state.losses) >= _STEPS_OF_UNDECIDED_LOSS and slope_of(state.losses) > _UNDECIDED_SLOPE
        speaks_against = alignment.deviations <= _SURELY_NEGATIVE_DEVIATIONS
        if undecided and not speaks_against and self.progress.metric_improves_steadily():
            return self._change(step, epoch, state.factor * _RAISE, Reason.STEADY_PROGRESS, evidence)
        return None

    def _points_on(self) -> bool:
        found = alignment_of(self.state.alignments)
        return found is not None and found.is_surely_positive(cosine=_LEAST_COSINE, deviations=_LEAST_DEVIATIONS)

    def _may_raise(self, step: int) -> bool:
        if not self._settings.raise_rate or self.state.phase == "annealing":
            return False
        in_time = self._horizon_steps is None or step <= _RAISING_SHARE * self._horizon_steps
        # At the highest factor it is read until it is known whether a higher one were wanted: the user is told.
        is_to_be_told = self.state.factor == self._settings.max_lr_factor and not self.state.wanted_higher
        return in_time and (is_to_be_told or self.state.factor < self._within(math.inf))

    @property
    def may_go_back(self) -> bool:
        """Whether a return is left."""
        return self.state.rollbacks < self._settings.max_rollbacks

    # Changing --------------------------------------------------------------------------------------------------------

    def _go_back(
        self, step: int, epoch: int, factor: float, reason: Reason, evidence: Mapping[str, float]
    ) -> Adjustment | None:
        state = self.state
        old, state.factor = state.factor, self._within(factor)
        state.held_back = state.held_back or factor < self._settings.min_lr_factor
        state.rollbacks += reason in (Reason.DIVERGENCE, Reason.NON_FINITE)  # what the trial does is bounded by itself
        self.goes_back = True
        self._wait(step)
        return self._adjustment(step, epoch, old, state.factor, reason, evidence)

    def _change(
        self, step: int, epoch: int, factor: float, reason: Reason, evidence: Mapping[str, float]
    ) -> Adjustment | None:
        state = self.state
        old, new = state.factor, self._within(factor)
        if new == old:
            state.held_back = state.held_back or factor < self._settings.min_lr_factor
            state.wanted_higher = state.wanted_higher or factor > self._settings.max_lr_factor
            return None
        state.factor = new
        self._forget(step)
        return self._adjustment(step, epoch, old, new, reason, evidence)

    def _adjustment(
        self, step: int, epoch: int, old: float, new: float, reason: Reason, evidence: Mapping[str, float]
    ) -> Adjustment:
        name = self._settings.automation
        return Adjustment(
            step=step,
            epoch=epoch,
            automation=name,
            parameter="factor",
            old=old,
            new=new,
            reason=reason,
            evidence=evidence,
        )

    def _stay_below(self, factor: float) -> None:
        """From here on, this factor is out of reach: the run blew up under it."""
        self.state.limit = self._within(factor * _LIMIT_BELOW_DIVERGENCE)

    def _within(self, factor: float) -> float:
        highest = min(self._settings.max_lr_factor, self.state.limit or math.inf)
        return max(min(factor, highest), self._settings.min_lr_factor)

    def _forget(self, step: int) -> None:
        """Losses and alignments speak of the factor under which they came."""
        self.state.losses = self.state.alignments = ()
        self.state.changed_at_step = step
        self.progress.state.metrics_since_change = 0

    def _wait(self, step: int) -> None:
        self._forget(step)
        self.progress.wait(step)
