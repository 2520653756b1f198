"""Shows our messages in programs that have not configured logging, as Lightning shows its own."""

from __future__ import annotations

import logging
import sys

__all__ = ["show_messages"]


class _UntilConfigured(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints to stderr as long as the root logger has no handler of its own, so that nothing is shown twice."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            self.setStream(sys.stderr)
            super().emit(record)


def show_messages(package: str) -> None:
    """Let a package's messages be seen from INFO on; a level or handler that the user has set is left alone.

    Args:
        package: Name of the package's logger.
    """
    logger = logging.getLogger(package)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_UntilConfigured())
