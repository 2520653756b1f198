"""Negative control: what does nothing scores exactly like plain Lightning."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.outcome import Cell, Outcome
from benchmarks.scoring.pairs import PLAIN

__all__ = ["Difference", "same_as_plain"]


@dataclass(frozen=True)
class Difference:
    """A figure in which a run differs from the plain one of the same cell."""

    cell: Cell
    figure: str
    plain: float | None
    other: float | None


def same_as_plain(outcomes: Iterable[Outcome], method: str) -> list[Difference]:
    """Every score and test loss that is not exactly plain Lightning's; empty when the method changes nothing.

    Args:
        outcomes: Of both methods; others are passed over.
        method: Name of the method that should do nothing.

    Raises:
        ValueError: If the two share no cell: nothing was compared.
    """
    by_method: dict[str, dict[tuple[str, str, str, int], Outcome]] = {PLAIN: {}, method: {}}
    for outcome in outcomes:
        cell = outcome.cell
        if cell.method in by_method:
            by_method[cell.method][cell.task, cell.optimizer, cell.scenario, cell.seed] = outcome
    plain, others = by_method[PLAIN], by_method[method]
    shared = sorted(plain.keys() & others.keys())
    if not shared:
        raise ValueError(f"expected cells that {PLAIN!r} and {method!r} share, got none")
    return [difference for pair in shared for difference in _differences(plain[pair], others[pair])]


def _differences(plain: Outcome, other: Outcome) -> list[Difference]:
    figures = {"score": (plain.score, other.score), "test_loss": (plain.test_loss, other.test_loss)}
    return [Difference(other.cell, name, *values) for name, values in figures.items() if not _same(*values)]


def _same(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return first == second or (math.isnan(first) and math.isnan(second))
