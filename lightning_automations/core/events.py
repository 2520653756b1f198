"""What automations tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Event", "EventKind"]


class EventKind(str, Enum):
    """What happened to the run that the other automations must know of.

    Rollbacks and changes of loss weights are heard already; the automations that make them come later, and an
    automation of your own may announce them.
    """

    RATE_CHANGED = "rate_changed"
    ROLLED_BACK = "rolled_back"
    BATCH_CHANGED = "batch_changed"
    LOSS_WEIGHTS_CHANGED = "loss_weights_changed"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One change that bears on what the other automations have seen so far.

    Args:
        kind: What happened.
        step: Optimizer step at which it happened; for a rollback the step of the snapshot that came back.
        ratio: New value over old value, where one number says it (rate, batch size); else 1.
    """

    kind: EventKind
    step: int
    ratio: float = 1.0
