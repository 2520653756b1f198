"""Measures one part of the scoreboard after the other, keeps what it measured, and writes the page."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import batch, overhead, stopping
from benchmarks.outcome import Cell, Outcome
from benchmarks.plan import BENCH, FULL, QUICK, Plan
from benchmarks.running import run
from benchmarks.scoring.groups import is_ours
from benchmarks.store import PARTS, ROOT, Progress, fingerprint, missing_packages, provenance, read_json, write_json
from benchmarks.workers import each
from benchmarks.writing import Measured, console, write_page

__all__ = ["MODES", "CannotStart", "Mode", "measure", "report"]

_PROGRESS = ROOT / "build" / "bench" / "progress"
_CURVE_SEEDS = (5, 6, 7, 8, 9)
"""Recording is cheap, and one seed of each job is too few to say where the best step lies."""
_EVERY_SECONDS = 30.0
"""Between two words on how far the runs are."""

Row = Mapping[str, Any]


class CannotStart(Exception):
    """Something that a command needs is not there."""


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How much is measured.

    Args:
        plan: The runs with automations and peers, and the seeds of everything.
        folder: Gets RESULTS.md and the folder ``results``.
        quick: Whether the other parts are cut down to seconds.
        full: Whether memory is measured after 100,000 steps, too.
    """

    plan: Plan
    folder: Path
    quick: bool = False
    full: bool = False


MODES: Mapping[str, Mode] = {
    "quick": Mode(plan=QUICK, folder=ROOT / "build" / "bench" / "quick", quick=True),
    "run": Mode(plan=BENCH, folder=ROOT / "build" / "bench" / "run"),
    "full": Mode(plan=FULL, folder=ROOT / "benchmarks", full=True),
}


def measure(mode: Mode, *, workers: int, seeds: int | None = None) -> str:
    """Measure everything, write the results and RESULTS.md, and return tables for the console.

    Args:
        mode: How much.
        workers: Processes, 1 or more.
        seeds: So many seeds instead of those of the plan, 1 or more.

    Raises:
        CannotStart: If a peer is not installed. Leaving it out would make its absence look like its failure.
    """
    missing = missing_packages()
    if missing:
        raise CannotStart(f"not installed: {', '.join(missing)}. `make bench-quick` installs them.")
    plan = mode.plan if seeds is None else replace(mode.plan, seeds=tuple(range(seeds)), clipping_seeds=())
    # First, while nothing else runs: it is the part that measures time.
    costs = _overhead(mode)
    measured = Measured(
        provenance={**provenance(), "seeds": list(plan.seeds)},
        overhead=costs,
        outcomes=_outcomes(plan.cells(), workers=workers),
        batch=_batch(plan, mode, workers=workers),
        stopping=_stopping(plan, mode, workers=workers),
    )
    _write_results(measured, mode.folder / "results")
    write_page(measured, mode.folder)
    return f"{console(measured)}\n\n{mode.folder / 'RESULTS.md'}"


def report() -> str:
    """Write RESULTS.md anew from the committed results, and return tables for the console.

    Raises:
        CannotStart: If there are none.
    """
    folder = MODES["full"].folder
    files = {part: folder / "results" / f"{part}.json" for part in PARTS}
    absent = [str(file) for file in files.values() if not file.exists()]
    if absent:
        raise CannotStart(f"not there: {', '.join(absent)}. `make bench-full` makes them.")
    parts = {part: read_json(file) for part, file in files.items()}
    measured = Measured(
        provenance={name: value for name, value in parts["runs"].items() if name != "rows"},
        overhead=parts["overhead"]["rows"][0],
        outcomes=[Outcome.from_json(row) for row in parts["runs"]["rows"]],
        batch={"measured": parts["batch"]["measured"], "rows": parts["batch"]["rows"]},
        stopping={"curves": parts["stopping"]["rows"]},
    )
    write_page(measured, folder)
    return console(measured)


def _overhead(mode: Mode) -> Row:
    kind = "quick" if mode.quick else "full" if mode.full else "normal"
    progress = _progress("overhead", kind)
    if not progress.rows():
        _say(f"overhead ({kind}), on an idle machine")
        progress.add(overhead.measure(quick=mode.quick, full=mode.full))
    return progress.rows()[-1]


def _outcomes(cells: Iterable[Cell], *, workers: int) -> list[Outcome]:
    """Make the runs that have not been made, and say now and then how far they are."""
    # Apart, so that a change of ours does not cost the runs of all peers.
    progress = {ours: _progress("runs of ours" if ours else "runs of peers") for ours in (False, True)}
    rows = (row for part in progress.values() for row in part.rows())
    made = {outcome.cell: outcome for outcome in map(Outcome.from_json, rows)}
    wanted = list(cells)
    missing = [cell for cell in wanted if cell not in made]
    _say(f"{len(wanted)} runs, {len(wanted) - len(missing)} of them made before")
    started = told = time.monotonic()
    for count, outcome in enumerate(each(run, missing, workers=workers), start=1):
        progress[is_ours(outcome.cell.method)].add(outcome.as_json())
        # As it is read again: what is not finite is null there.
        made[outcome.cell] = Outcome.from_json(outcome.as_json())
        if time.monotonic() - told > _EVERY_SECONDS:
            told = time.monotonic()
            remaining = (told - started) / count * (len(missing) - count)
            _say(f"{count} of {len(missing)} runs, about {remaining / 60:.0f} minutes to go")
    return [made[cell] for cell in wanted]


def _batch(plan: Plan, mode: Mode, *, workers: int) -> Row:
    _say("batches that do not fit memory")
    progress = _progress("batch")
    return batch.measure(seeds=plan.seeds, quick=mode.quick, workers=workers, done=progress.rows(), save=progress.add)


def _stopping(plan: Plan, mode: Mode, *, workers: int) -> Row:
    _say("curves for the stopping rules")
    progress = _progress("stopping")
    seeds, tasks = (plan.seeds, plan.tasks) if mode.quick else (_CURVE_SEEDS, None)
    return stopping.measure(seeds=seeds, tasks=tasks, workers=workers, done=progress.rows(), save=progress.add)


def _write_results(measured: Measured, folder: Path) -> None:
    """One file a part, each with the fingerprint of the code that it was measured with."""
    rows: Mapping[str, Sequence[Row]] = {
        "overhead": [measured.overhead],
        "runs": [outcome.as_json() for outcome in measured.outcomes],
        "batch": measured.batch["rows"],
        "stopping": measured.stopping["curves"],
    }
    for part in PARTS:
        head = {**measured.provenance, "code": _code(part)}
        if part == "batch":
            head["measured"] = measured.batch["measured"]
        if part == "stopping":
            head["seeds"] = sorted({row["seed"] for row in rows[part]})
        write_json(folder / f"{part}.json", head, rows[part])


def _code(part: str) -> str | Mapping[str, str]:
    if part == "runs":
        return {whose: fingerprint(f"runs of {whose}") for whose in ("ours", "peers")}
    return fingerprint(part)


def _progress(part: str, kind: str = "all") -> Progress:
    name = f"{part}-{kind}".replace(" ", "-")
    return Progress(_PROGRESS / f"{name}.jsonl", fingerprint=fingerprint(part))


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
