"""Run folders for tests, written line by line as a run writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RATE, BATCH = "IntelligentLearningRateScheduler", "DynamicBatchSizeOptimizer"
CLIPPING, STOPPING = "AdaptiveGradientClipping", "IntelligentEarlyStopping"


def entry(event: str, automation: str = RATE, *, step: int = 0, run: str = "a", **details: Any) -> dict[str, Any]:
    """One line of a journal."""
    return {"time": 1.7e9, "run": run, "event": event, "automation": automation, "step": step, **details}


def start(automation: str = RATE, *, step: int = 0, run: str = "a", **settings: Any) -> dict[str, Any]:
    """The first line of an automation, in a run of 100 steps."""
    return entry("start", automation, step=step, run=run, settings=settings, retired=False, planned_steps=100)


def change(automation: str = RATE, *, step: int, reason: str, run: str = "a", **details: Any) -> dict[str, Any]:
    """An adjustment of a factor from 1 to 0.5."""
    values = {"epoch": 0, "parameter": "factor", "old": 1.0, "new": 0.5, "evidence": {"loss": 2.0}, "applied": True}
    return entry("adjustment", automation, step=step, run=run, reason=reason, **{**values, **details})


def write_journal(folder: Path, *entries: dict[str, Any], tail: str = "") -> Path:
    """A journal of these lines, and of a tail as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "automations.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in entries) + tail)
    return path


def write_metrics(folder: Path, **columns: list[Any]) -> None:
    """A file of CSVLogger: one row for each value, under steps 9, 19, 29, ...; None is an empty cell."""
    rows = [",".join(["step", *(name.replace("__", "/") for name in columns)])]
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        rows.append(",".join([str(10 * number + 9), *("" if value is None else str(value) for value in values)]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
