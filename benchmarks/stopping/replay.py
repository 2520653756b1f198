"""Lets every rule decide on the same recorded curves, and says what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.stopping.curve import Curve
from benchmarks.stopping.rules import RULES, Rule, stop_of

__all__ = ["WORSE", "Replay", "curves_of", "replay", "replayed"]

WORSE = 0.05
"""A test loss that is more than this share above that of the full run counts as worse."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One rule on one curve.

    The weights that count are those of the best validation before the stop, for the stopped run as for the full one.

    Args:
        rule: Name of the rule.
        curve: The run.
        stopped: Whether the run was stopped before its end.
        saved: Share of the budget that was not used.
        slack: Test loss of the weights that count above that of the full run, as a share of the latter; negative where
            it is lower.
        slack_at_stop: The same for the weights that the run had when it was stopped; against the same full run.
        succeeded: Whether the test score of the weights that count is within the task's margin of the full run.
    """

    rule: str
    curve: Curve
    stopped: bool
    saved: float
    slack: float
    slack_at_stop: float
    succeeded: bool

    @property
    def is_worse(self) -> bool:
        """Whether the weights that count are worse than those of the full run by more than ``WORSE``."""
        # Turned round, so that a test loss that is not a number is worse.
        return not self.slack <= WORSE


def replayed(recorded: Mapping[str, Any], rules: Sequence[Rule] = RULES) -> list[Replay]:
    """Every rule that can be replayed here, on every recorded curve.

    Args:
        recorded: What ``measure`` returned.
        rules: The rules.
    """
    curves = curves_of(recorded)
    return [replay(rule, curve) for rule in rules if rule.is_installed for curve in curves]


def replay(rule: Rule, curve: Curve) -> Replay:
    """One rule on one curve."""
    last = len(curve.validation_losses) - 1
    stop = stop_of(rule, curve)
    end = last if stop is None else stop
    kept, full = curve.best(until=end), curve.best(until=last)
    return Replay(
        rule=rule.name,
        curve=curve,
        stopped=end < last,
        saved=(last - end) / (last + 1),
        slack=_above(curve.test_losses[kept], curve.test_losses[full]),
        slack_at_stop=_above(curve.test_losses[end], curve.test_losses[full]),
        succeeded=curve.test_scores[kept] >= curve.test_scores[full] - curve.margin,
    )


def curves_of(recorded: Mapping[str, Any]) -> list[Curve]:
    """The recorded curves."""
    rows: Iterable[Mapping[str, Any]] = recorded["curves"]
    return [Curve.from_json(row) for row in rows]


def _above(loss: float, reference: float) -> float:
    return (loss - reference) / abs(reference)
