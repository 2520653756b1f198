"""Calls of what only looks on: loggers, and the report. Their errors end neither run nor automation."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

__all__ = ["harmless", "raises_errors"]

log = logging.getLogger(__name__)

ON_ERROR_VARIABLE = "LIGHTNING_AUTOMATIONS_ON_ERROR"


def raises_errors() -> bool:
    """Whether unexpected errors are let through, as the tests want it."""
    return os.environ.get(ON_ERROR_VARIABLE) == "raise"


def harmless(what: str, function: Callable[..., Any], *args: Any, **keywords: Any) -> bool:
    """Call a function, and return whether it went well; if not, the log says so.

    Args:
        what: What did not go well, for the log.
        function: What to call.
        args: Its arguments.
        keywords: Those that it takes by name.
    """
    try:
        function(*args, **keywords)
    except Exception as error:
        if raises_errors():
            raise
        log.warning("%s: %s: %s; training goes on without it.", what, type(error).__name__, error)
        return False
    return True
