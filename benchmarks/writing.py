"""Puts all parts of a measurement on one page, and the most important ones on the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import batch, losses, overhead, stopping
from benchmarks.methods import METHODS
from benchmarks.methods.method import Study
from benchmarks.outcome import Outcome
from benchmarks.references import references
from benchmarks.report import quick_table, render
from benchmarks.report.rules_tried import rules_tried_section
from benchmarks.store import ROOT, read_json
from benchmarks.tasks import TASKS

__all__ = ["Measured", "console", "write_page"]

_RULES_TRIED = ROOT / "benchmarks" / "results" / "clipping_rules.json"
_LOSS_WEIGHTS = ROOT / "benchmarks" / "results" / "loss_weights.json"
_STUDIES = {study.value: [method.name for method in METHODS if study in method.studies] for study in Study}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that was measured.

    Args:
        provenance: Date, machine, versions and seeds.
        overhead: As ``overhead.measure`` gives it.
        outcomes: Of the runs with automations and peers.
        batch: As ``batch.measure`` gives it.
        stopping: As ``stopping.measure`` gives it.
    """

    provenance: Mapping[str, Any]
    overhead: Mapping[str, Any]
    outcomes: Sequence[Outcome]
    batch: Mapping[str, Any]
    stopping: Mapping[str, Any]


def write_page(measured: Measured, folder: Path) -> None:
    """Write RESULTS.md and its plots.

    Args:
        measured: Everything.
        folder: Made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = render(
        outcomes=measured.outcomes,
        references=references(),
        studies=_STUDIES,
        machine=measured.provenance,
        sections={
            "Rules of clipping that were tried": rules_tried_section(read_json(_RULES_TRIED)),
            "Stopping": stopping.section(measured.stopping, plots_folder=folder / "plots"),
            "Loss weights": losses.section(read_json(_LOSS_WEIGHTS)["rows"]),
            "Batches that do not fit memory": batch.section(measured.batch),
            "Overhead": overhead.section(measured.overhead),
        },
        plots_folder=folder / "plots",
        tasks={task.name: task.summary for task in TASKS},
        methods={method.name: method.source for method in METHODS},
        extra=batch.successes(measured.batch),
        overhead_percent=overhead.bar_percent(measured.overhead),
    )
    (folder / "RESULTS.md").write_text(page, encoding="utf-8")


def console(measured: Measured) -> str:
    """Tables of under 100 columns."""
    table = quick_table(
        outcomes=measured.outcomes,
        references=references(),
        studies=_STUDIES,
        extra=batch.successes(measured.batch),
    )
    return f"{table}\n\nOverhead: {overhead.bar_percent(measured.overhead):.1f} % of a step of 20 ms"
