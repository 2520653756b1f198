"""How patience, warm-up and the steps between validations fit into a run."""

from __future__ import annotations

__all__ = ["VALIDATIONS_OF_PATIENCE", "earliest_stop", "patience_of_validations"]

VALIDATIONS_OF_PATIENCE = 5
"""What a patience should wait for, where the run is long enough."""
_FEWEST_VALIDATIONS = 2
"""With one, a single unlucky validation ends the run."""
_LAST_TENTHS = 9
"""A stop that can come only in the last tenth of a run saves next to nothing."""


def earliest_stop(*, warmup_steps: int, wait_steps: int, least_steps: int, steps_between: int) -> int:
    """The first step at which a plateau can end a run: metrics are judged at validations only.

    Args:
        warmup_steps: Steps before which nothing is judged.
        wait_steps: Steps without improvement that make a plateau.
        least_steps: Steps before which the run is never stopped.
        steps_between: Steps between validations, 1 where they are not known.

    Example:
        >>> earliest_stop(warmup_steps=1000, wait_steps=2000, least_steps=0, steps_between=1500)
        4500
    """
    first = _validation_from(max(1, warmup_steps), steps_between)
    return _validation_from(max(first + wait_steps, least_steps), steps_between)


def patience_of_validations(*, steps: int, steps_between: int, warmup_steps: int) -> int | None:
    """A patience of several validations that leaves the run as many again; None where validation is too rare for that.

    Args:
        steps: Of the run.
        steps_between: Steps between validations.
        warmup_steps: Steps before which nothing is judged.

    Example:
        >>> patience_of_validations(steps=40_000, steps_between=1000, warmup_steps=1000)
        5000
        >>> patience_of_validations(steps=40_000, steps_between=10_000, warmup_steps=1000)
        20000
    """
    first = _validation_from(max(1, warmup_steps), steps_between)
    judged = (steps * _LAST_TENTHS // 10 - first) // steps_between + 1
    validations = min(VALIDATIONS_OF_PATIENCE, (judged + 1) // 2)
    return validations * steps_between if validations >= _FEWEST_VALIDATIONS else None


def _validation_from(step: int, steps_between: int) -> int:
    """The first validation at a step or after it."""
    return -(-step // steps_between) * steps_between
