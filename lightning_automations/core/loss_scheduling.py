"""Which weights the terms of a loss get: the decision of DynamicLossScheduling."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings
from lightning_automations.core.loss_weighting import (
    DynamicWeightAverage,
    GradNorm,
    Magnitudes,
    RelativeBalancing,
    Sizes,
    Uncertainty,
    WeightingMethod,
    shares_of,
)
from lightning_automations.core.state import dumped, restored

__all__ = ["LossSchedulingBrain"]

# Decisions out of which one looks back to the start, on average; 0.999 of the steps in the paper, and a decision here
# comes every fifty steps.
_LOOK_BACK = 0.1
# Sizes beyond these are those of a term that is switched off or has blown up.
_LEAST_SIZE, _LARGEST_SIZE = 1e-30, 1e30


@dataclass(kw_only=True)
class LossSchedulingState:
    """What is known of the terms.

    Args:
        given: The weights at the start.
        weights: The weights that hold.
        base: The weights that the methods start from: those given, or those of the calibration.
        proposed: What the method would have; small changes add up here.
        sizes: Smoothed absolute values of the terms.
        norms: Smoothed norms of their gradients, where the method asks for them.
        before: The same at the decision before.
        start: The same when the baseline was complete.
        shares: The shares of the loss that are held; for ``gradnorm`` those of the norms.
        first_step: The step at which the baseline began.
        is_calibrated: Whether it is complete.
    """

    given: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    base: dict[str, float] = field(default_factory=dict)
    proposed: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    first_step: int | None = None
    is_calibrated: bool = False


class LossSchedulingBrain:
    """Balances the weights of a loss with several terms.

    For ``baseline_iterations`` steps, and until two terms have been read, it only looks. Then the weights are
    calibrated, where that is wanted, and at every decision after that the method proposes weights; they are taken where
    one of them differs by more than ``adaptation_threshold`` from the one that holds. A term that is 0, missing or not
    finite since the last decision keeps its weight and takes no part in it; one that is negative counts by its absolute
    value.

    Args:
        settings: The settings, fitted to the run.
    """

    def __init__(self, settings: LossSchedulingSettings) -> None:
        self._settings = settings
        self._method = _method(settings)
        self.state = LossSchedulingState()

    @property
    def weights(self) -> dict[str, float]:
        """The weights that hold."""
        return dict(self.state.weights)

    def begin(self, weights: Mapping[str, float], *, step: int) -> None:
        """A fit begins with these weights. A resumed one goes on with its own."""
        if set(weights) != set(self.state.weights):
            self.state = LossSchedulingState(given=dict(weights), weights=dict(weights), first_step=step)

    def observe(
        self,
        *,
        step: int,
        epoch: int,
        terms: Mapping[str, float],
        draw: float,
        norms: Mapping[str, float] = MappingProxyType({}),
    ) -> list[Adjustment]:
        """Take the mean sizes of the terms since the last decision, and say which weights to change.

        Args:
            step: Optimizer steps done.
            epoch: The epoch, counted from 0.
            terms: Mean absolute value of each unweighted term; NaN: there was none.
            draw: A random number, 0 to below 1, the same on all ranks.
            norms: Mean Euclidean norm of each unweighted term's gradient by the shared parameters, for ``gradnorm``;
                NaN: there was none.

        Returns:
            One adjustment for each weight that changes; none where nothing does.
        """
        state = self.state
        state.before = dict(state.sizes)
        for name in state.weights:
            self._smooth(state.sizes, name, terms.get(name, math.nan))
            self._smooth(state.norms, name, norms.get(name, math.nan))
        if state.is_calibrated:
            heard = [name for name in state.weights if _is_size(terms.get(name, math.nan))]
            return self._change(step, epoch, self._proposed(heard, draw), Reason.TERMS_OUT_OF_BALANCE)
        if self._is_looking(step) or len(self._known()) < 2:
            return []
        return self._calibrate(step, epoch)

    def unread(self, step: int) -> list[str]:
        """The terms that are not balanced, for no value of them was read before the others were calibrated."""
        if self._is_looking(step):
            return []
        balanced = self.state.shares if self.state.is_calibrated else self._known()
        return [name for name, weight in self.state.weights.items() if weight > 0 and name not in balanced]

    def at_bounds(self) -> list[str]:
        """The terms whose weight has come to a bound."""
        state, bounds = self.state, (self._settings.min_weight, self._settings.max_weight)
        moved = [name for name in state.shares if state.weights[name] != state.given[name]]
        return [name for name in moved if state.weights[name] in bounds]

    def forget(self) -> None:
        """The weights of the network went back: what the terms were since is no longer true, their weights hold."""
        self.state.before, self.state.sizes, self.state.norms = {}, {}, {}

    def hold(self, weights: Mapping[str, float]) -> None:
        """From here on these weights hold, and those of the start where none is named."""
        self.state.weights = {**self.state.given, **weights}

    def state_dict(self) -> dict[str, Any]:
        """All that a decision depends on, as JSON-able values."""
        return dumped(self.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that ``state_dict`` gave."""
        self.state = restored(LossSchedulingState, state)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _is_looking(self, step: int) -> bool:
        return step - (self.state.first_step or 0) < self._settings.baseline_iterations

    def _smooth(self, kept: dict[str, float], name: str, value: float) -> None:
        if _is_size(value):
            share = self._settings.momentum if self.state.is_calibrated else 0.5
            kept[name] = share * kept.get(name, value) + (1 - share) * value

    def _balanced(self) -> Mapping[str, float]:
        """What the weights share out: the norms of the gradients, or the terms themselves."""
        return self.state.norms if self._settings.needs_gradients else self.state.sizes

    def _known(self) -> list[str]:
        """The terms that can be balanced: those with a size and a weight, and a gradient where it is asked for."""
        state, balanced = self.state, self._balanced()
        return [
            name for name, weight in state.weights.items() if weight > 0 and name in state.sizes and name in balanced
        ]

    def _calibrate(self, step: int, epoch: int) -> list[Adjustment]:
        state, names, balanced = self.state, self._known(), self._balanced()
        state.is_calibrated, state.start = True, dict(state.sizes)
        contributions = {name: state.weights[name] * balanced[name] for name in names}
        state.base, state.proposed = dict(state.weights), dict(state.weights)
        if not self._settings.auto_calibrate:
            state.shares = shares_of(contributions)
            return []
        even = self._settings.shares == "even"
        meant = {name: 1.0 if even else state.given[name] for name in names}
        state.shares, whole = shares_of(meant), math.fsum(contributions.values())
        wanted = {name: state.shares[name] * whole / balanced[name] for name in names}
        made = self._change(step, epoch, wanted, Reason.CALIBRATED)
        state.base = dict(state.weights)
        if self._settings.method == "uncertainty":  # it divides by the sizes itself
            total = math.fsum(state.weights[name] for name in names)
            state.base.update({name: total * share for name, share in state.shares.items()})
        state.proposed = dict(state.weights)
        return made

    def _proposed(self, heard: Collection[str], draw: float) -> dict[str, float]:
        state, known = self.state, self._known()
        names = [name for name in heard if name in known and name in state.shares and name in state.before]
        if len(names) < 2:
            return {}
        sizes = Sizes(
            now={name: state.sizes[name] for name in names},
            before={name: state.before[name] for name in names},
            start={name: state.start[name] for name in names},
            given={name: state.base[name] for name in names},
            weights={name: state.proposed[name] for name in names},
            shares=shares_of({name: state.shares[name] for name in names}),
            norms={name: state.norms[name] for name in names if name in state.norms},
            looks_back=draw < _LOOK_BACK,
        )
        state.proposed.update({name: self._within(name, weight) for name, weight in self._method.weigh(sizes).items()})
        return {name: state.proposed[name] for name in names}

    def _change(self, step: int, epoch: int, wanted: Mapping[str, float], reason: Reason) -> list[Adjustment]:
        state = self.state
        bounded = {name: self._within(name, weight) for name, weight in wanted.items()}
        changes = [abs(weight / state.weights[name] - 1) for name, weight in bounded.items()]
        if not changes or max(changes) <= self._settings.adaptation_threshold:
            return []
        made = [
            Adjustment(
                step=step,
                epoch=epoch,
                automation=self._settings.automation,
                parameter=f"loss_weights.{name}",
                old=state.weights[name],
                new=weight,
                reason=reason,
                evidence=self._evidence(name),
            )
            for name, weight in bounded.items()
            if weight != state.weights[name]
        ]
        state.weights.update(bounded)
        return made

    def _evidence(self, name: str) -> dict[str, float]:
        state = self.state
        norm = {"gradient_norm": state.norms[name]} if self._settings.needs_gradients else {}
        return {"size": state.sizes[name], "share": state.shares[name], **norm}

    def _within(self, name: str, weight: float) -> float:
        """Inside the bounds; a weight that was given beyond them moves them."""
        given = self.state.given[name]
        low, high = min(self._settings.min_weight, given), max(self._settings.max_weight, given)
        return min(max(weight, low), high)


def _is_size(value: float) -> bool:
    return _LEAST_SIZE < value < _LARGEST_SIZE


def _method(settings: LossSchedulingSettings) -> WeightingMethod:
    if settings.method == "dynamic_weight_average":
        return DynamicWeightAverage(settings.temperature)
    if settings.method == "uncertainty":
        return Uncertainty()
    if settings.method == "relative_balancing":
        return RelativeBalancing(settings.temperature, settings.momentum)
    rate = 1 - (1 - settings.adaptation_rate) ** settings.adaptation_frequency  # of all steps of a decision together
    return GradNorm(rate, settings.asymmetry) if settings.needs_gradients else Magnitudes(rate)
