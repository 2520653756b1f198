"""How figures and tables are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.scoring import Share, is_ours

__all__ = ["DASH", "STUDY_TITLES", "figure", "named", "number", "percent", "quoted", "share_text", "table"]

DASH = "-"
"""Stands where nothing was measured."""

STUDY_TITLES = {"clipping": "Clipping", "rate": "Learning rate", "together": "All automations together"}
"""By the name of the study, in the order of the report."""


def percent(value: float, *, digits: int = 0) -> str:
    """A share between 0 and 1 without the sign."""
    return f"{100 * value:.{digits}f}"


def share_text(found: Share, *, digits: int = 0) -> str:
    """``3/4, 75 % (30 to 95)``; a dash for a share of nothing."""
    value, interval = found.value, found.interval
    if value is None or interval is None:
        return DASH
    low, high = (percent(bound, digits=digits) for bound in interval)
    return f"{found.count}/{found.total}, {percent(value, digits=digits)} % ({low} to {high})"


def figure(found: Share) -> str:
    """``3/4``; a dash for a share of nothing."""
    return f"{found.count}/{found.total}" if found.total else DASH


def number(value: float | None, *, digits: int = 2) -> str:
    """A dash where there is none."""
    return DASH if value is None else f"{value:.{digits}f}"


def named(method: str) -> str:
    """The name of a method in a table; ours stand out."""
    return f"**{method}**" if is_ours(method) else method


def quoted(method: str) -> str:
    """The name of a method in a sentence: some have commas."""
    return f"`{method}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """A Markdown table.

    Args:
        head: Names of the columns.
        rows: As many entries each.
        words: So many columns at first hold words, which stand to the left; figures stand to the right.
    """
    marks = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, marks, *rows))
