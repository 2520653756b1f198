"""The loggers of one fit: numbers and settings for all of them, events as text where a logger has a place for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

from lightning_automations.callbacks.harmless import harmless

__all__ = ["Outlets"]

EVENTS_KEPT = 1000
"""Of those that a logger takes at the end; the journal has all."""
_NAME = "automations"
_SECTION = "training_automations"


class Outlets:
    """Hands things to the loggers. One that raises is spared that kind of thing from then on, which is said once.

    TensorBoard gets every event as text when it happens, Weights & Biases (a table) and MLflow (an artifact) all of
    them at the end. TensorBoard's own record of hyperparameters has one entry for a run, which is the module's: it gets
    the settings as text.

    Args:
        trainer: The trainer, at its start of training.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._loggers: list[Logger] = list(trainer.loggers) if trainer.is_global_zero else []
        self._refused: set[tuple[int, str]] = set()
        self._events: list[tuple[int, str]] = []

    def numbers(self, values: Mapping[str, float], *, step: int) -> None:
        """Log values, under the step that Lightning logs under."""
        for logger in self._loggers:
            self._hand(logger, "numbers", logger.log_metrics, dict(values), step=step)

    def settings(self, automation: str, settings: Mapping[str, Any]) -> None:
        """Log the settings under which an automation begins, beside the hyperparameters of the module."""
        named = {f"{_SECTION}/{automation}/{name}": value for name, value in settings.items()}
        for logger in self._loggers:
            if _is(logger, "TensorBoardLogger"):
                text = "\n".join(f"    {name}: {value}" for name, value in settings.items())
                self._hand(logger, "settings", _add_text, logger, f"{_SECTION}/{automation}", text, 0)
            else:
                self._hand(logger, "settings", logger.log_hyperparams, named)

    def event(self, sentence: str, *, step: int) -> None:
        """Something happened, at an optimizer step."""
        if len(self._events) < EVENTS_KEPT:
            self._events.append((step, sentence))
        for logger in self._loggers:
            if _is(logger, "TensorBoardLogger"):
                self._hand(logger, "text", _add_text, logger, _NAME, sentence, step)

    def finish(self) -> None:
        """The fit is over: what is logged is on the disk, and the events are where only whole texts are taken."""
        for logger in self._loggers:
            if self._events and _is(logger, "WandbLogger"):
                self._hand(logger, "text", _add_table, logger, self._events)
            elif self._events and _is(logger, "MLFlowLogger"):
                self._hand(logger, "text", _add_artifact, logger, self._events)
            self._hand(logger, "files", logger.save)

    def folders(self) -> list[Path]:
        """Where the loggers write, those that have a folder of the run."""
        return [Path(logger.log_dir) for logger in self._loggers if logger.log_dir is not None]

    def _hand(self, logger: Logger, kind: str, function: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        key = (id(logger), kind)
        if key not in self._refused and not harmless(
            f"{type(logger).__name__} does not take the {kind} of the automations", function, *args, **keywords
        ):
            self._refused.add(key)


def _is(logger: Logger, name: str) -> bool:
    """By name: a logger of either package of Lightning, without an import of what may not be installed."""
    return any(kind.__name__ == name for kind in type(logger).__mro__)


def _add_text(logger: Any, tag: str, text: str, step: int) -> None:
    logger.experiment.add_text(tag, text, step)


def _add_table(logger: Any, events: list[tuple[int, str]]) -> None:
    logger.log_text(key=_NAME, columns=["step", "event"], data=[list(event) for event in events])


def _add_artifact(logger: Any, events: list[tuple[int, str]]) -> None:
    logger.experiment.log_text(logger.run_id, "".join(f"- {sentence}\n" for _, sentence in events), f"{_NAME}.md")
