"""Our early stopper on recorded curves: its own brain and settings, fed as the callback feeds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from benchmarks.methods.ours import CONFIGURATIONS
from benchmarks.stopping.curve import Validation
from lightning_automations.core.early_stopping import EarlyStoppingBrain
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.settings import RunLength

__all__ = ["WATCHED", "block", "our_rule"]

WATCHED = "val/loss"
"""What every rule watches; takes the place of the metric that a configuration names."""


def block(configuration: str) -> dict[str, Any]:
    """What a configuration of the scoreboard says about the stopper.

    Args:
        configuration: A name in ``CONFIGURATIONS``.
    """
    document: Any = OmegaConf.to_container(OmegaConf.load(CONFIGURATIONS[configuration]))
    at_root = "training_automations" in document
    section = (document if at_root else document["train"])["training_automations"]
    written = section["IntelligentEarlyStopping"] or {}
    return {**written, "monitor_metric": WATCHED}


def our_rule(written: dict[str, Any], run: RunLength) -> Callable[[Validation], bool]:
    """The stopper for one run.

    The automations that would tell it of rollbacks and lowered rates take no part here; of drops that a schedule
    plans it knows, as in a fit. Nothing holds a stop back: the trainer has no minimum of steps or epochs.

    Args:
        written: The settings, as a user wrote them.
        run: Its length, as far as it is known at the start.
    """
    settings = EarlyStoppingSettings.from_mapping(written)
    brain = EarlyStoppingBrain(settings.fitted(run, EarlyStoppingSettings.names_written(written)))

    def stops(now: Validation) -> bool:
        adjustment = brain.observe(
            step=now.step,
            epoch=now.epochs_done,
            epochs_done=now.epochs_done,
            metric=now.loss,
            higher_is_better=False,
            train_loss=now.training_loss,
            rate=now.rate,
            drop_ahead=now.drop_ahead,
            horizon_steps=run.steps,
        )
        return adjustment is not None

    return stops
