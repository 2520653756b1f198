"""Settings of DynamicLossScheduling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from lightning_automations.core.errors import Problem
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
            since the start at random, weigh more. ``gradnorm``: terms pull equally hard at ``shared_parameters``, and
            harder where they have fallen less.
        auto_calibrate: After ``baseline_iterations`` steps, choose weights with which each term has its share of the
            loss; the loss as a whole stays as large as it is, as far as the bounds allow. False: the shares that the
            given weights lead to are the ones to hold. For ``gradnorm`` read: of the gradients' norms, in place of the
            loss.
        shares: Which share of the loss a term should have: ``given``, that of its given weight in all given weights;
            ``even``, the same for all, whatever the given weights are.
        terms: Logged names of the terms, where the training step does not return them under ``loss_terms``: a mapping
            from names in ``loss_weights`` to names in ``trainer.callback_metrics``. Log them at every step: their mean
            between two decisions counts.
        shared_parameters: For ``gradnorm``, what all terms share: names of parameters as ``named_parameters()`` gives
            them, or of the parts of the module that hold them (``encoder``, ``network.body.3``); one, or a list. The
            last shared layer is the cheapest, for a gradient is then computed no further than there.
        gradient_frequency: Optimizer steps between two measurements of these gradients, 1 or more. Each is one more
            backward pass for each term. Not written, at most 1 % of the run's steps.
        baseline_iterations: Optimizer steps from which the terms' usual sizes are taken before anything is changed, 1
            or more. Not written, at most 10 % of the run's steps.
        adaptation_frequency: Optimizer steps between two decisions, 1 or more. Not written, at most 5 % of the run's.
        momentum: Share of a term's size that the last decision leaves as it was, 0 to below 1.
        adaptation_rate: How much of the way to its share ``magnitudes`` brings a term in one step, and the size of a
            step of ``gradnorm``, above 0 and at most 1.
        asymmetry: The exponent alpha of ``gradnorm``, 0 to 10: the larger, the more a term that has fallen less is
            favoured; at 0 all pull equally hard for good.
        adaptation_threshold: Relative change below which no weight is touched, 0 or more. Smaller ones add up; each
            change makes the other automations look anew at the loss.
        temperature: Of the softmax of ``dynamic_weight_average`` and ``relative_balancing``, above 0; higher is more
            even.
        min_weight: Smallest weight, above 0.
        max_weight: Largest weight, at least ``min_weight``. A given weight of 0 or less stays as it is, and one beyond
            the bounds moves the bound.
        max_adjustments: Changed weights before it retires, 0 or more; None: no limit.
        fallback: The weights that hold once it has retired, by term. A term that is not named gets the weight that it
            had at the start.
        enabled, on_error, dry_run, journal: As in ``AutomationSettings``.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, or contradicts another.
    """

    automation: ClassVar[str] = "DynamicLossScheduling"
    ordered: ClassVar[tuple[tuple[str, str], ...]] = (("min_weight", "max_weight"),)
    shares_of_steps: ClassVar[Mapping[str, float]] = {
        "baseline_iterations": 0.1,
        "adaptation_frequency": 0.05,
        "gradient_frequency": 0.01,
    }

    method: Literal["magnitudes", "dynamic_weight_average", "uncertainty", "relative_balancing", "gradnorm"] = (
        "magnitudes"
    )
    auto_calibrate: bool = True
    shares: Literal["given", "even"] = "given"
    terms: Mapping[str, str] = field(default_factory=dict)
    shared_parameters: tuple[str, ...] | str = ()
    gradient_frequency: Annotated[int, Ge(1)] = 10
    baseline_iterations: Annotated[int, Ge(1)] = 200
    adaptation_frequency: Annotated[int, Ge(1)] = 50
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    adaptation_rate: Annotated[float, Gt(0), Le(1)] = 0.01
    asymmetry: Annotated[float, Ge(0), Le(10)] = 1.5
    adaptation_threshold: Annotated[float, Ge(0)] = 0.05
    temperature: Annotated[float, Gt(0), Lt(math.inf)] = 2.0
    min_weight: Annotated[float, Gt(0), Lt(math.inf)] = 1e-6
    max_weight: Annotated[float, Gt(0), Lt(math.inf)] = 100.0
    fallback: Mapping[str, Weight] = field(default_factory=dict)

    @property
    def needs_gradients(self) -> bool:
        """Whether the method asks for the terms' gradients."""
        return self.method == "gradnorm"

    @property
    def shared_names(self) -> tuple[str, ...]:
        """``shared_parameters``, always as several."""
        return (self.shared_parameters,) if isinstance(self.shared_parameters, str) else self.shared_parameters

    def contradictions(self) -> Iterable[Problem]:
        if not self.needs_gradients:
            return
        if not all(self.shared_names) or not self.shared_names:
            yield Problem(
                path="shared_parameters",
                expected="the names of what all terms share, for method is gradnorm",
                got=repr(self.shared_parameters),
                hint="Name the part of the module that all terms go through; its last layer is the cheapest.",
            )
        if self.terms:
            yield Problem(
                path="terms",
                expected="nothing, for method is gradnorm",
                got=repr(dict(self.terms)),
                hint="A logged number has no gradient: let the training step return self.weighted(...).",
            )
