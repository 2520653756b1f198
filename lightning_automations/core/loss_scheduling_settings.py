"""Settings of DynamicLossScheduling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from lightning_automations.core.settings import AutomationSettings

__all__ = ["LossSchedulingSettings", "Weight"]

Weight = Annotated[float, Ge(0), Lt(math.inf)]


@dataclass(frozen=True, kw_only=True)
class LossSchedulingSettings(AutomationSettings):
    """Settings of ``DynamicLossScheduling``.

    Args:
        method: How weights follow from the terms. ``magnitudes``: each term is held at its share of the loss.
            ``dynamic_weight_average``: terms that fall more slowly weigh more. ``uncertainty``: weights inversely
            proportional to the terms. ``relative_balancing``: terms that have fallen less, since the last decision or
            since the start at random, weigh more.
        auto_calibrate: After ``baseline_iterations`` steps, choose weights with which each term has its share of the
            loss; the loss as a whole stays as large as it is. False: the shares that the given weights lead to are the
            ones to hold.
        shares: Which share of the loss a term should have: ``given``, that of its given weight in all given weights;
            ``even``, the same for all, whatever the given weights are.
        terms: Logged names of the terms, where the training step does not return them under ``loss_terms``: a mapping
            from names in ``loss_weights`` to names in ``trainer.callback_metrics``.
        baseline_iterations: Optimizer steps from which the terms' usual sizes are taken before anything is changed, 1
            or more. Not written, at most 10 % of the run's steps.
        adaptation_frequency: Optimizer steps between two decisions, 1 or more. Not written, at most 5 % of the run's.
        momentum: Share of a term's size that the last decision leaves as it was, 0 to below 1.
        adaptation_rate: How much of the way to its share ``magnitudes`` brings a term in one step, above 0 and at most
            1.
        adaptation_threshold: Relative change below which no weight is touched, 0 or more. Smaller ones add up; each
            change makes the other automations look anew at the loss.
        temperature: Of the softmax of ``dynamic_weight_average`` and ``relative_balancing``, above 0; higher is more
            even.
        min_weight: Smallest weight, above 0.
        max_weight: Largest weight, at least ``min_weight``. A given weight of 0 stays 0, and one beyond the bounds
            moves the bound.
        max_adjustments: Changed weights before it retires, 0 or more; None: no limit.
        fallback: The weights that hold once it has retired, by term. A term that is not named gets the weight that it
            had at the start.
        enabled, on_error, dry_run, journal: As in ``AutomationSettings``.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, or contradicts another.
    """

    automation: ClassVar[str] = "DynamicLossScheduling"
    ordered: ClassVar[tuple[tuple[str, str], ...]] = (("min_weight", "max_weight"),)
    shares_of_steps: ClassVar[Mapping[str, float]] = {"baseline_iterations": 0.1, "adaptation_frequency": 0.05}

    method: Literal["magnitudes", "dynamic_weight_average", "uncertainty", "relative_balancing"] = "magnitudes"
    auto_calibrate: bool = True
    shares: Literal["given", "even"] = "given"
    terms: Mapping[str, str] = field(default_factory=dict)
    baseline_iterations: Annotated[int, Ge(1)] = 200
    adaptation_frequency: Annotated[int, Ge(1)] = 50
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    adaptation_rate: Annotated[float, Gt(0), Le(1)] = 0.01
    adaptation_threshold: Annotated[float, Ge(0)] = 0.05
    temperature: Annotated[float, Gt(0), Lt(math.inf)] = 2.0
    min_weight: Annotated[float, Gt(0), Lt(math.inf)] = 1e-6
    max_weight: Annotated[float, Gt(0), Lt(math.inf)] = 100.0
    fallback: Mapping[str, Weight] = field(default_factory=dict)
