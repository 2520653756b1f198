"""The section that tells what was measured, where and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.scoring import Run

__all__ = ["measured"]


def measured(runs: Sequence[Run], machine: Mapping[str, Any]) -> str:
    """Markdown.

    Args:
        runs: All of them.
        machine: ``date``, ``machine`` and ``versions``, as in the result files.
    """
    seeds = sorted({run.outcome.cell.seed for run in runs})
    lines = [
        f"- Date: {machine['date']}",
        f"- Machine: {_listed(machine['machine'])}",
        f"- Versions: {_listed(machine['versions'])}",
        f"- Seeds: {', '.join(map(str, seeds)) or 'none'}",
        f"- {_how_often(runs)}",
        *_own_errors(runs),
    ]
    return "\n".join(lines)


def _listed(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())


def _how_often(runs: Sequence[Run]) -> str:
    """How many runs stand behind a cell of task, optimizer, scenario and method."""
    cells = Counter((*run.pair[:3], run.method) for run in runs)
    counts = sorted(Counter(cells.values()).items())
    behind = " and ".join(f"{count} behind each of {number} cells" for count, number in counts)
    return f"Runs: {len(runs)}" + (f", {behind} (task, optimizer, scenario, method)" if counts else "")


def _own_errors(runs: Sequence[Run]) -> list[str]:
    """Said only when there are some: it would be a defect of ours."""
    struck = [run for run in runs if run.outcome.own_errors]
    methods = ", ".join(sorted({run.method for run in struck}))
    return [f"- Automations of ours failed, and were retired, in {len(struck)} runs ({methods})"] if struck else []
