"""A dry run of the batch-size automation: out-of-memory errors pass, and what they would have led to is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer

from lightning_automations.callbacks.failure_place import outside_of_step
from lightning_automations.core.recorded import WOULD_RUN_IN_PIECES
from lightning_automations.lightning_internals import replace_closures
from lightning_automations.probes.out_of_memory import is_out_of_memory

__all__ = ["watch_errors"]


def watch_errors(trainer: Trainer, tell: Callable[[str], None]) -> Callable[[], None]:
    """Let ``tell`` say that an out-of-memory error in a training step, which passes, would have been survived.

    Returns:
        A function that ends the watch.
    """
    return replace_closures(trainer, lambda closure, _keywords, _optimizer: _WatchedClosure(closure, trainer, tell))


class _WatchedClosure:
    def __init__(self, closure: Any, trainer: Trainer, tell: Callable[[str], None]) -> None:
        self._closure = closure
        self._trainer = trainer
        self._tell = tell
        self.consume_result = closure.consume_result

    def __call__(self) -> Any:
        try:
            return self._closure()
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error) and outside_of_step(error, self._trainer) is None:
                reason = str(error).splitlines()[0]
                self._tell(f"{WOULD_RUN_IN_PIECES} {reason}")
            raise
