"""Adds automations to a trainer that has its callbacks already."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_automations.callbacks.namespaces import CALLBACK_BASES
from lightning_automations.core.errors import ConfigError, Problem

__all__ = ["JoinAtSetup", "join"]

log = logging.getLogger(__name__)


def join(trainer: Trainer, automations: Iterable[Callback]) -> list[Callback]:
    """Add the automations whose type the trainer does not have, in front of its checkpoints, which come last.

    Args:
        trainer: A trainer of either package.
        automations: What to add. One that the trainer has already, or a subclass of it, is left out: that one holds.

    Returns:
        Those that were added.
    """
    # A new list: Lightning may be on its way through the old one.
    callbacks: list[Any] = list(trainer.callbacks)  # type: ignore[attr-defined]
    checkpoints = [callbacks.index(checkpoint) for checkpoint in trainer.checkpoint_callbacks]
    added = [item for item in automations if not any(isinstance(other, type(item)) for other in callbacks)]
    place = min(checkpoints, default=len(callbacks))
    trainer.callbacks = [*callbacks[:place], *added, *callbacks[place:]]  # type: ignore[attr-defined]
    return added


class JoinAtSetup(*CALLBACK_BASES):  # type: ignore[misc]
    """Adds automations to its trainer when a fit is set up, as if they had been passed to it.

    By then the trainer has the callbacks that were passed to it and those of ``configure_callbacks``, and Lightning has
    not yet restored the states of a checkpoint. Validation, test and prediction are left alone. It has no state.

    Args:
        build: Makes the automations, anew for each trainer; takes no arguments.
        source: Where they come from, for messages: name of the variable, ``=``, path of the file.

    Raises:
        ConfigError: When a fit is set up, if the file is wrong.
    """

    def __init__(self, build: Callable[[], list[Callback]], *, source: str) -> None:
        self._build = build
        self._source = source

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        try:
            automations = self._build()
        except ConfigError as error:
            raise ConfigError([*error.problems, self._asked_for()]) from None
        added = join(trainer, automations)
        for automation in added:
            # What Lightning has done by now for those that were there from the start.
            automation.log = pl_module.log  # type: ignore[attr-defined]
            automation.log_dict = pl_module.log_dict  # type: ignore[attr-defined]
            automation.setup(trainer, pl_module, stage)
        if added and trainer.is_global_zero:
            names = ", ".join(type(automation).__name__ for automation in added)
            log.info("%s: added %s", self._source, names)

    def _asked_for(self) -> Problem:
        """Whoever runs the program may not know that anything is read."""
        name, _, file = self._source.partition("=")
        return Problem(
            path=name,
            expected="a file with sound automations",
            got=file,
            hint="Every Trainer that fits reads it. Without the variable the program trains without automations.",
        )
