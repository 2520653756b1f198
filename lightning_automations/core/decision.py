"""What a brain returns: one change, its reason and the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Protocol

__all__ = ["Adjustment", "Brain", "Reason", "Value", "describe", "explanation"]

Value = float | int | str | bool | None


class Reason(str, Enum):
    """Why something was changed. The value is what the journal shows.

    An automation that is not one of ours gives its reasons as a text of its own: ``"weights_too_large"``.
    """

    PLATEAU = "plateau"
    DIVERGENCE = "divergence"
    NON_FINITE = "non_finite"
    START_NOT_FALLING = "start_not_falling"
    NO_BETTER_RATE = "no_better_rate"
    GRADIENT_POINTS_ON = "gradient_points_on"
    STEADY_PROGRESS = "steady_progress"
    LOSS_CHANGED = "loss_changed"
    ANNEALING = "annealing"
    GRADIENT_LEVEL = "gradient_level"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_MEMORY_ELSEWHERE = "out_of_memory_elsewhere"
    NO_ERROR_SINCE = "no_error_since"
    MEMORY_ABOVE_TARGET = "memory_above_target"
    MEMORY_BELOW_TARGET = "memory_below_target"
    OVERFITTING = "overfitting"
    CONVERGENCE = "convergence"
    CALIBRATED = "calibrated"
    TERMS_OUT_OF_BALANCE = "terms_out_of_balance"
    THRESHOLD_REACHED = "threshold_reached"
    THRESHOLD_CROSSED = "threshold_crossed"

    def __str__(self) -> str:
        return self.value


_EXPLANATIONS = {
    Reason.PLATEAU: "no improvement for the length of the patience",
    Reason.DIVERGENCE: "the training loss rises beyond its noise",
    Reason.NON_FINITE: "a value is NaN or infinite",
    Reason.START_NOT_FALLING: "in the first steps the loss rises or does not move; from the start with a lower rate",
    Reason.NO_BETTER_RATE: "a lower rate did not clearly better; from the start with the rate of before",
    Reason.GRADIENT_POINTS_ON: "the gradient surely points on along the way gone: the rate is low",
    Reason.STEADY_PROGRESS: "the metric improves at the same speed, and the loss is too noisy to tell",
    Reason.LOSS_CHANGED: "the loss is as high with the weights of before: it means something else now",
    Reason.ANNEALING: "the last part of the run begins",
    Reason.GRADIENT_LEVEL: "the usual gradient norm has moved",
    Reason.OUT_OF_MEMORY: "the batch did not fit into memory",
    Reason.OUT_OF_MEMORY_ELSEWHERE: "a batch did not fit into the memory of another rank",
    Reason.NO_ERROR_SINCE: "memory has sufficed for a while since the last error",
    Reason.MEMORY_ABOVE_TARGET: "memory use is above the target",
    Reason.MEMORY_BELOW_TARGET: "memory use is below the target band",
    Reason.OVERFITTING: "the validation metric gets worse while the training loss still falls",
    Reason.CONVERGENCE: "what the rest of the run can still gain is too little to matter",
    Reason.CALIBRATED: "the first steps have shown how large the terms of the loss are",
    Reason.TERMS_OUT_OF_BALANCE: "the terms of the loss have moved against each other",
    Reason.THRESHOLD_REACHED: "the metric reached the stopping threshold",
    Reason.THRESHOLD_CROSSED: "the metric crossed the divergence threshold",
}


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """One change that an automation made, or would have made in a dry run.

    Args:
        step: Optimizer steps done, as ``trainer.global_step`` counts them.
        epoch: The epoch, counted from 0.
        automation: Name of the automation as in the YAML, for example ``AdaptiveGradientClipping``.
        parameter: What was changed, for example ``threshold``.
        old: The value before.
        new: The value after.
        reason: Why: one of ours, or a text of few words joined by underscores.
        evidence: The numbers behind the decision.
    """

    step: int
    epoch: int
    automation: str
    parameter: str
    old: Value
    new: Value
    reason: Reason | str
    evidence: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The adjustment as JSON-able values."""
        return {**asdict(self), "reason": _plain(self.reason)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Adjustment:
        """The adjustment that ``as_dict`` wrote; a reason that is none of ours stays a text.

        Raises:
            TypeError: If a field is missing or unknown, or if the reason is no text.
        """
        return cls(**{**values, "reason": _known(values["reason"])})


class Brain(Protocol):
    """The shape of every decision class: fed with numbers, asked for one change, its state in and out.

    ``observe`` takes what the automation reads as keyword arguments and returns an ``Adjustment`` or None. It is left
    out of this protocol because its arguments differ.
    """

    def state_dict(self) -> dict[str, Any]:
        """All that a decision depends on, as JSON-able values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state that ``state_dict`` gave."""


def explanation(reason: Reason | str) -> str:
    """A reason in words; one that is none of ours says itself what it means.

    >>> explanation(Reason.OUT_OF_MEMORY)
    'the batch did not fit into memory'
    >>> explanation("weights_too_large")
    'weights too large'
    """
    known = _known(_plain(reason))
    return _EXPLANATIONS[known] if isinstance(known, Reason) else known.replace("_", " ")


def describe(adjustment: Adjustment) -> str:
    """One adjustment as a sentence for people.

    >>> describe(Adjustment(step=40, epoch=1, automation="A", parameter="factor", old=1.0, new=0.5,
    ...                     reason=Reason.PLATEAU, evidence={"best": 0.25}))
    'step 40: A changed factor from 1 to 0.5: no improvement for the length of the patience (best 0.25)'
    """
    numbers = ", ".join(f"{name} {_short(value)}" for name, value in adjustment.evidence.items())
    change = f"changed {adjustment.parameter} from {_short(adjustment.old)} to {_short(adjustment.new)}"
    sentence = f"step {adjustment.step}: {adjustment.automation} {change}: {explanation(adjustment.reason)}"
    return f"{sentence} ({numbers})" if numbers else sentence


def _plain(reason: Reason | str) -> str:
    """The text that stands for a reason, also for a member of an Enum of someone else."""
    return str(reason.value) if isinstance(reason, Enum) else reason


def _known(reason: str) -> Reason | str:
    if not isinstance(reason, str):
        raise TypeError(f"expected a reason as a text, got {type(reason).__name__}")
    try:
        return Reason(reason)
    except ValueError:
        return reason


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
