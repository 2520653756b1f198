"""How the learning rate is found at the start, raised and lowered in the run, and brought down at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Literal

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.learning_rate_state import LearningRateState
from lightning_automations.core.progress import WINDOW_STEPS
from lightning_automations.core.rate_evidence import usual_noise_of
from lightning_automations.core.rate_start import RateStart
from lightning_automations.core.rate_trial import Attempt
from lightning_automations.core.state import dumped, restored
from lightning_automations.core.statistics import finite

__all__ = ["LearningRateBrain"]

# Halving is what plateau schedulers and hand-made step schedules use between their steps; three of them reach the
# seed's lowest factor of 0.1, and one that was not needed costs less than a cut to a tenth.
_CUT = 0.5
# A rate that blows up within a few steps of the start, a raise or a return is far too high.
_CUT_SOON = 0.2
_SOON_STEPS = 40
_CUT_FOR_OVERFITTING = 0.3
_READ_ALIGNMENT_FOR_STEPS = 50
_READ_ALIGNMENT_EVERY_WINDOWS = 200
# Of the losses of two windows: half of one, or less in each. Rare ones are skipped or overcome: of those that come
# by chance once in a hundred steps, five fall into two windows once in 700,000 windows.
_NON_FINITE_SHARE = 0.25
# After a cut for divergence the loss needs time to come down before it is judged again.
_COOLDOWN_STEPS = 100
_EXPLODED_RISE = 0.5
_EXPLODED_DEVIATIONS = 4.0
# A loss that is still this share of the way up, with the weights of before, never was low.
_DOUBT = 0.25
_SCHEDULE_HAS_FALLEN = 0.95
_LOSSES_KEPT = 60
_ALIGNMENTS_KEPT = 30


class LearningRateBrain(RateStart):
    """Sets a factor on the scheduled rate, and says when the weights have to go back to a snapshot.

    * The start: the given rate is tried for ten to twenty steps, see ``rate_trial``.
    * The run: the factor is raised while the gradient surely points on along the way gone (hypergradient descent,
      Baydin et al. 2018), halved on a plateau, lowered on overfitting. When the loss surely rises, explodes or stays
      non-finite, the run goes back, below the rate that blew up where the bounds allow it. A single loss that is not
      finite is no divergence: a quarter of two windows has to be.
    * The end: where the length of the run is known, the factor falls in a straight line.

    Args:
        settings: The settings, fitted to the run.
        written: Names of the settings that the user wrote. A ``plateau_patience`` that is written holds as it is.
    """

    # What is read ----------------------------------------------------------------------------------------------------

    @property
    def factor(self) -> float:
        """The factor on the scheduled rate that holds now."""
        lowest = self._settings.min_lr_factor
        # Rounding takes a quarter of all factors a last digit below their bound.
        return max(self.state.factor - (self.state.factor - lowest) * self.state.annealed, lowest)

    @property
    def smoothed_loss(self) -> float:
        """The level of the training loss; NaN before the first window."""
        return self.progress.smoothed_loss

    @property
    def tries(self) -> bool:
        """Whether the fit is in its first steps, from which it may start again."""
        return self.state.phase == "trial"

    @property
    def wants_snapshot(self) -> bool:
        """Whether the weights are sound, and a snapshot of them may still be of use."""
        return self.is_healthy and not self.tries and self.may_go_back

    def wants_alignment(self, step: int) -> bool:
        """Whether the next window is to be read for the alignment of gradient and way gone: at first, then rarely."""
        if not self._may_raise(step):
            return False
        is_new = step - self.state.changed_at_step < _READ_ALIGNMENT_FOR_STEPS
        return is_new or step // WINDOW_STEPS % _READ_ALIGNMENT_EVERY_WINDOWS == 0

    # What happens ----------------------------------------------------------------------------------------------------

    def begin(
        self, *, step: int, horizon_steps: int | None, rates: Sequence[float] = (), one_objective: bool = True
    ) -> None:
        """A fit begins, or goes on.

        Args:
            step: Optimizer steps done; a fit at 0 is a fresh one.
            horizon_steps: Optimizer steps of the whole run; None: not known.
            rates: The scheduled rates of the first step: a warm-up rises in the first window already.
            one_objective: False for networks that train against each other, whose loss may rise or stand still: it is
                only asked to be a number then, and the metric decides; nothing is annealed.
        """
        self._horizon_steps = horizon_steps
        self._one_objective = one_objective
        if step == 0:
            self._remember_rates(rates)
        if step == 0 and self._settings.find_start and self._settings.monitor_loss and one_objective:
            self.state.phase = "trial"
        if self.state.phase == "annealing" and not self._is_end(step):
            # A run that was annealed goes on for longer than was planned: from the rate that it has.
            self.state.phase, self.state.factor, self.state.annealed = "running", self.factor, 0.0

    def observe(
        self,
        *,
        step: int,
        epoch: int,
        loss: float = math.nan,
        non_finite: float = math.nan,
        metric: float = math.nan,
        mode: Literal["min", "max"] = "min",
        rates: Sequence[float] = (),
        losses: Sequence[float] = (),
        alignments: Sequence[float] = (),
        can_go_back: bool = False,
    ) -> Adjustment | None:
        """Take one window of the loss, one validation, or both, and say what to change.

        Args:
            step: Optimizer steps done.
            epoch: The epoch, counted from 0.
            loss: Mean of the finite training losses of the last window; NaN: there are none.
            non_finite: Share of the losses of the window that were NaN or infinite; NaN: no window.
            metric: The validation metric; NaN: no validation.
            mode: Whether the metric is better when it is lower or higher.
            rates: The scheduled rates with a window; while one of them rises, no trend is judged.
            losses: The losses of the window one by one, NaN where one is missing; empty: ``loss`` alone.
            alignments: The cosines of the window that were read, NaN where one is missing.
            can_go_back: Whether there is a snapshot.
        """
        self.goes_back = self.takes_back = self.is_healthy = False
        self._can_go_back = can_go_back and self.may_go_back
        if self._stays_non_finite(non_finite):
            return self._lost(step, epoch, Reason.NON_FINITE, {"non_finite_share": non_finite})
        if self._remember_rates(rates):
            self._wait(step)
            return None
        window = finite(losses) or finite([loss])
        if not self._one_objective:
            self.is_healthy, window = bool(window), []
        self._remember(window, finite(alignments))
        if self.state.phase == "trial":
            return self._try(step, epoch) if window else None
        if window:
            adjustment = self._judge_loss(step, epoch, loss, window)
            if adjustment is not None:
                return adjustment
        if math.isfinite(metric):
            self.progress.take_metric(step, metric if mode == "min" else -metric)
        if not self._is_end(step):
            return self._judge_progress(step, epoch, mode)
        # The rate is written at the end of a window: a validation in between must not move the factor.
        return self._anneal(step, epoch) if window or rates else None

    def start_anew(self, step: int) -> None:
        """Forget what was seen: from this step on, the loss means something else."""
        self.progress.start_anew(step)
        self.state.start_loss = self.state.doubted_factor = None
        self.state.start_losses, self.state.sees_start = (), False
        self._wait(step)

    def give_up_on(self, step: int, epoch: int) -> Adjustment | None:
        """Somebody else has found the run lost: go back with a lower rate."""
        self.goes_back = self.takes_back = self.is_healthy = False
        self._can_go_back = self.may_go_back
        return self._lost(step, epoch, Reason.NON_FINITE, {}) if self._can_go_back else None

    def state_dict(self) -> dict[str, Any]:
        return {"rate": dumped(self.state), "progress": self.progress.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = restored(LearningRateState, state["rate"])
        self.progress.load_state_dict(state["progress"])
        # Bounds given now win over those of the run that saved the state.
        self.state.factor = self._within(self.state.factor)

    # The run ---------------------------------------------------------------------------------------------------------

    def _judge_loss(self, step: int, epoch: int, loss: float, window: Sequence[float]) -> Adjustment | None:
        """Whether the loss speaks against the weights or the rate."""
        state = self.state
        doubted, state.doubted_factor = state.doubted_factor, None
        if doubted is not None and min(window[0], median(window)) > state.doubted_level:
            # As high with the weights of before: it was not the rate, the loss means something else now. The first loss
            # has to say so too: a rate that is still far too high has spoilt the others.
            self.start_anew(step)
            self.takes_back, state.limit = True, state.doubted_limit
            old, state.factor = state.factor, doubted
            return self._adjustment(step, epoch, old, doubted, Reason.LOSS_CHANGED, {"loss": median(window)})
        if state.start_loss is None and len(window) >= WINDOW_STEPS // 2:
            state.start_loss, state.start_noise = median(window), usual_noise_of(window)
        elif state.start_loss is not None and self._has_exploded(window):
            evidence = {"loss": median(window), "start_loss": state.start_loss, "noise": state.start_noise}
            return self._lost(step, epoch, Reason.DIVERGENCE, evidence)
        self.progress.take_loss(step, loss)
        rise = self.progress.divergence()
        self.is_healthy = self.progress.state.decisions_rising == 0
        if rise is not None:
            evidence = {"loss": rise.recent, "level_before": rise.before, "noise": rise.noise}
            return self._lost(step, epoch, Reason.DIVERGENCE, evidence)
        return None

    def _has_exploded(self, window: Sequence[float]) -> bool:
        """Whether most of the losses are far above that of an untrained network."""
        if self.state.start_loss is None or len(window) < WINDOW_STEPS // 2:
            return False
        rise = median(window) - self.state.start_loss
        return rise > max(_EXPLODED_RISE * abs(self.state.start_loss), _EXPLODED_DEVIATIONS * self.state.start_noise)

    def _judge_progress(self, step: int, epoch: int, mode: Literal["min", "max"]) -> Adjustment | None:
        state, progress = self.state, self.progress
        if progress.overfits(step) or progress.is_on_plateau(step):
            overfits = progress.overfits(step)
            evidence = progress.evidence(step, lower_is_better=mode == "min")
            progress.be_patient(step)
            factor = state.factor * (_CUT_FOR_OVERFITTING if overfits else _CUT)
            if overfits:
                state.limit = self._within(factor)
            return self._change(step, epoch, factor, Reason.OVERFITTING if overfits else Reason.PLATEAU, evidence)
        return self._raise(step, epoch)

    def _lost(self, step: int, epoch: int, reason: Reason, evidence: dict[str, float]) -> Adjustment | None:
        """The weights or the rate are no good: go back where that is possible, else cut the rate once a cooldown."""
        state = self.state
        if state.phase == "trial" and self._can_go_back and state.factor > self._settings.min_lr_factor:
            return self._try_lower(step, epoch, Attempt(level=math.inf, noise=0.0))
        state.phase = "running" if state.phase == "trial" else state.phase
        if not self._can_go_back:
            if state.cut_at_step is not None and step - state.cut_at_step < _COOLDOWN_STEPS:
                return None
            state.cut_at_step = step
            state.start_loss = None  # the loss stays where it is, and is measured from there
            self._wait(step)
            return self._change(step, epoch, state.factor * _CUT, reason, evidence)
        factor = state.factor * (_CUT_SOON if step - state.changed_at_step < _SOON_STEPS else _CUT)
        state.doubted_factor, state.doubted_limit = None, state.limit
        self._stay_below(state.factor)
        if reason is Reason.DIVERGENCE:
            before = evidence.get("level_before", evidence.get("start_loss", 0.0))
            state.doubted_factor, state.doubted_level = state.factor, before + _DOUBT * (evidence["loss"] - before)
        return self._go_back(step, epoch, factor, reason, evidence)

    # The end ---------------------------------------------------------------------------------------------------------

    def _is_end(self, step: int) -> bool:
        share, horizon = self._settings.anneal_share, self._horizon_steps
        anneals = self.state.anneals and self._one_objective
        return anneals and horizon is not None and share > 0 and step >= (1 - share) * horizon

    def _anneal(self, step: int, epoch: int) -> Adjustment | None:
        state, length = self.state, self._settings.anneal_share * (self._horizon_steps or 0)
        before = state.phase
        if before != "annealing":
            if any(now < _SCHEDULE_HAS_FALLEN * top for now, top in zip(state.rates, state.highest_rates, strict=True)):
                state.anneals = False  # the user's schedule does it
                return None
            state.phase = "annealing"
        # The factor that holds for the next window is that of its middle.
        steps_left = (self._horizon_steps or 0) - step - WINDOW_STEPS / 2
        state.annealed = min(max(1 - steps_left / length, 0.0), 1.0)
        if before == "annealing" or state.factor <= self._settings.min_lr_factor:
            return None
        return self._adjustment(step, epoch, state.factor, self._settings.min_lr_factor, Reason.ANNEALING, {})

    # Readings --------------------------------------------------------------------------------------------------------

    def _remember(self, losses: Sequence[float], alignments: Sequence[float]) -> None:
        self.state.losses = (*self.state.losses, *losses)[-_LOSSES_KEPT:]
        self.state.alignments = (*self.state.alignments, *alignments)[-_ALIGNMENTS_KEPT:]

    def _stays_non_finite(self, share: float) -> bool:
        """Whether so many losses of this window and the one before are NaN or infinite that it is no accident."""
        if math.isnan(share):
            return False
        before, self.state.non_finite_share = self.state.non_finite_share, share
        return (before + share) / 2 >= _NON_FINITE_SHARE and share > 0

    def _remember_rates(self, rates: Sequence[float]) -> bool:
        """Keep the scheduled rates and the highest of them, and say whether one has risen since the last time."""
        if not rates:
            return False
        state = self.state
        previous, state.rates = state.rates, tuple(rates)
        is_same = len(rates) == len(previous)  # no group was added
        state.highest_rates = tuple(map(max, rates, state.highest_rates)) if is_same else tuple(rates)
        return is_same and any(now > then for now, then in zip(rates, previous, strict=True))
