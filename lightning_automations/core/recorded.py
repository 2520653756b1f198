"""Under which names a run is written down: what the callbacks write is what a report reads."""

from __future__ import annotations

import re

__all__ = ["JOURNAL_NAME", "VALUES_PREFIX", "WOULD_RUN_IN_PIECES", "snake_case", "value_name"]

JOURNAL_NAME = "automations.jsonl"
VALUES_PREFIX = "automation"
WOULD_RUN_IN_PIECES = "(dry run) would have run the batch again in pieces after:"
"""The beginning of the note on an out-of-memory error that a dry run lets pass."""

_WORD_BEGINS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def snake_case(name: str) -> str:
    """The other form of an automation's name; capitals in a row are one word.

    >>> snake_case("EMADecay")
    'ema_decay'
    """
    return _WORD_BEGINS.sub("_", name).lower()


def value_name(automation: str, value: str) -> str:
    """Under which name loggers and ``callback_metrics`` have a value of an automation.

    Args:
        automation: The automation's name among logged values, ``metrics_name`` of its callback.
        value: The value's own name.

    Example:
        >>> value_name("adaptive_gradient_clipping", "threshold")
        'automation/adaptive_gradient_clipping/threshold'
    """
    return f"{VALUES_PREFIX}/{automation}/{value}"
