"""What the learning-rate automation tells the user once, beside its adjustments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.learning_rate_state import LearningRateState

__all__ = ["SEVERAL_OPTIMIZERS", "WhatHoldsItBack", "goes_on_for_longer"]

SEVERAL_OPTIMIZERS = (
    "the module has several optimizers, and losses that are trained against each other may rise or stand still: the "
    "factor follows the validation metric alone, and a loss that is not finite"
)


def goes_on_for_longer(factor: float) -> str:
    """An annealed run was given more steps."""
    return (
        f"the run was annealed and goes on for longer than was planned: from the factor that it has, {factor:.4g}, "
        "which is raised where the gradient surely points on"
    )


class WhatHoldsItBack:
    """Compares the brain's state with that of before a decision.

    Args:
        state: Before the decision; it is copied.
    """

    def __init__(self, state: LearningRateState) -> None:
        self._before = replace(state)

    def words(self, state: LearningRateState, settings: LearningRateSettings) -> Iterator[str]:
        """What has come up since: bounds that were reached, and returns that are used up."""
        before = self._before
        if state.held_back and not before.held_back:
            yield (
                f"the rate would be lowered further, but the factor is at min_lr_factor ({settings.min_lr_factor}); "
                "set it lower to allow that"
            )
        if state.wanted_higher and not before.wanted_higher:
            yield (
                f"the rate would be raised further, but the factor is at max_lr_factor ({settings.max_lr_factor}); set "
                "it higher to allow that"
            )
        if before.rollbacks < settings.max_rollbacks <= state.rollbacks:
            yield (
                f"it has gone back {state.rollbacks} times and will not again (max_rollbacks); a run that is lost at "
                "every rate has another cause: look at its data, its loss, and its precision"
            )
