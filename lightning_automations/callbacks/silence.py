"""Noticing that an automation is told nothing at all, so that the user learns of it."""

from __future__ import annotations

__all__ = ["NOTHING_READ", "Silence"]

NOTHING_READ = (
    "it has read nothing so far and will not act: let the training step return its loss (monitor_loss), or log a "
    "metric in validation and name it (monitor_validation, monitor_metric)"
)

# Windows without a loss, where no validation is to come; a window or two may be empty by chance.
_SILENT_DECISIONS = 10


class Silence:
    """Counts decisions without any reading from the start of the run, until something is read or the user was told.

    Args:
        decisions: Decisions so far, as ``decisions`` gave them; None: something was read, or the user was told.

    Example:
        >>> silence = Silence()
        >>> silence.is_to_be_told(something_read=False, validated=True, validates=True)
        True
        >>> silence.is_to_be_told(something_read=False, validated=True, validates=True)
        False
    """

    def __init__(self, decisions: int | None = 0) -> None:
        self.decisions = decisions

    def is_to_be_told(self, *, something_read: bool, validated: bool, validates: bool) -> bool:
        """Whether the user is to be told at this decision; true once at most.

        Args:
            something_read: Whether there is any reading, or will be at the next decision.
            validated: Whether this decision follows a validation.
            validates: Whether the run validates and the metric is asked for.
        """
        if self.decisions is None:
            return False
        self.decisions += 1
        is_silent = validated or (self.decisions >= _SILENT_DECISIONS and not validates)
        if something_read or is_silent:
            self.decisions = None
        return is_silent and not something_read
