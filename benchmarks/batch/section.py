"""The section of RESULTS.md on batches that do not fit memory, made from rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.batch.jobs import FITS
from benchmarks.batch.methods import METHODS
from benchmarks.batch.rows import BatchOutcome
from benchmarks.report.text import DASH, figure, named, number, table
from benchmarks.scoring import MemoryRun, share

__all__ = ["section", "successes"]

_NOT_MEASURED = "Not measured: the limit of memory that this study sets exists on Linux only."

_HOW = """\
Real out-of-memory errors of the allocator on the CPU: each run is a process of its own that may reserve
(`RLIMIT_DATA`) only a share of what the plain run of the same job and seed needs beyond what the process has before
training. A share of {fits:g} is the clean scenario. *Trained*: the run came to its end, its weights are finite, each
epoch had every sample exactly once, and its test score is within the task's margin of the plain run without a limit.
*In budget*: it is also within the margin with the weights that it had when trials, failed steps and training together
had used up the samples that the plain run sees; this is what counts as success elsewhere on this page. Every batch
that enters a training step counts in full, one that fails at once too. Jobs of so few steps make a failed step dear:
in a run of a thousand steps the same failures would cost nothing that could be seen. find_executable_batch_size
shrinks in steps of a tenth and so always ends at the edge of what fits, where the outcome varies from one measurement
to the next. A batch that memory does not hold even before it is used (*in the data loader* below) is beyond what
splitting a step can do. A method that goes on with smaller batches makes more optimizer steps of the same samples,
which in so short a run often scores better; the column *batch* tells what the optimizer saw, and *largest difference*
how far a weight is from the plain run's. Rounding alone can make that as large as the learning rate under AdamW, whose
first steps have one size however small a gradient is."""

_COLUMNS = (
    "method", "room", "ended", "trained", "in budget", "score", "largest difference", "steps", "batch", "at once",
    "changes", "samples", "time", "peak",
)  # fmt: skip
_COLUMNS_TOLD = """\
*score*: above that of the plain run without a limit; *at once*: samples in the largest piece of the last epoch;
*changes*: adjustments and recoveries of ours, or restarts; *samples*: seen, as a multiple of the plain run's; *time*:
processor time of the fit, as a multiple of the plain run's; *peak*: of reserved memory, as a share of the room.
Medians over the seeds of the runs that ended; *largest difference* is the largest of all."""


def section(measured: Mapping[str, Any]) -> str:
    """Markdown: how often each method got through, then each job in detail, the held-out task apart.

    Args:
        measured: What ``measure`` returned.
    """
    if not measured["measured"]:
        return _NOT_MEASURED
    outcomes = _outcomes(measured)
    shown = [outcome for outcome in outcomes if not outcome.held_out]
    held_out = [outcome for outcome in outcomes if outcome.held_out]
    parts = [_HOW.format(fits=FITS), _overview(shown), _COLUMNS_TOLD]
    parts += [part for job in _in_order(outcome.job for outcome in shown) for part in _detail(job, shown)]
    parts += [part for job in _in_order(outcome.job for outcome in held_out) for part in _detail(job, held_out)]
    return "\n\n".join([*parts, "#### Methods", _methods(outcomes)])


def successes(measured: Mapping[str, Any]) -> list[MemoryRun]:
    """All runs as they count in the headline, in the sense of the whole scoreboard: failed steps cost."""
    return [
        MemoryRun(outcome.method, (outcome.job, outcome.share, outcome.seed), outcome.in_budget)
        for outcome in _outcomes(measured)
    ]


def _outcomes(measured: Mapping[str, Any]) -> list[BatchOutcome]:
    return [BatchOutcome.from_json(row) for row in measured["rows"]]


def _overview(outcomes: Sequence[BatchOutcome]) -> str:
    """Trained and in budget, by method and room."""
    shares = sorted({outcome.share for outcome in outcomes}, reverse=True)
    rows = []
    for method in _in_order(outcome.method for outcome in outcomes):
        cells = []
        for room in shares:
            runs = [outcome for outcome in outcomes if (outcome.method, outcome.share) == (method, room)]
            trained, in_budget = (share(flags) for flags in _flags(runs))
            cells.append(f"{figure(trained)}, {figure(in_budget)}")
        rows.append((named(method), *cells))
    head = ("trained, in budget", *(f"room {room:g}" for room in shares))
    return table(head, rows)


def _flags(runs: Sequence[BatchOutcome]) -> tuple[list[bool], list[bool]]:
    return [run.trained for run in runs], [run.in_budget for run in runs]


def _detail(job: str, outcomes: Sequence[BatchOutcome]) -> list[str]:
    """One job: what it needs, and a row for each method and room."""
    of_job = [outcome for outcome in outcomes if outcome.job == job]
    first = of_job[0]
    held_out = "Held out. " if first.held_out else ""
    need = median(outcome.need_bytes for outcome in of_job) / 2**20
    seconds = median(outcome.plain_seconds for outcome in of_job)
    about = (
        f"{held_out}The plain run without a limit needs {need:.0f} MiB and {seconds:.1f} s of processor time for "
        f"{first.budget} samples, and brings the score ({first.score_name}) from {first.start_score:.3f} to "
        f"{first.reference_score:.3f}; the margin is {first.margin:g}."
    )
    groups: dict[tuple[float, str], list[BatchOutcome]] = {}
    for outcome in of_job:
        groups.setdefault((outcome.share, outcome.method), []).append(outcome)
    rows = [_row(method, room, runs) for (room, method), runs in groups.items()]
    parts = [f"#### {job}", about, table(_COLUMNS, rows, words=1)]
    errors = _errors(of_job)
    return [*parts, errors] if errors else parts


def _row(method: str, room: float, runs: Sequence[BatchOutcome]) -> tuple[str, ...]:
    ended = [run for run in runs if run.error is None]
    flags = ([run.error is None for run in runs], *_flags(runs))

    def typical(value: Callable[[BatchOutcome], float | None], digits: int) -> str:
        values = [found for run in ended if (found := value(run)) is not None]
        return number(median(values), digits=digits) if values else DASH

    differences = [run.difference for run in ended if run.difference is not None]
    return (
        named(method),
        f"{room:g}",
        *(figure(share(flag)) for flag in flags),
        typical(lambda run: None if run.score is None else run.score - run.reference_score, 3),
        f"{max(differences):.1e}" if differences else DASH,
        typical(lambda run: run.steps, 0),
        typical(lambda run: run.batch, 0),
        typical(lambda run: run.micro_batch, 0),
        typical(lambda run: run.changes, 0),
        typical(lambda run: run.samples / run.budget, 2),
        typical(lambda run: run.seconds, 2),
        typical(lambda run: run.room_used, 2),
    )


def _errors(outcomes: Iterable[BatchOutcome]) -> str:
    """What ended runs, methods and rooms with the same error on one line."""
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            places = found.setdefault(_told(outcome.error), [])
            place = f"{outcome.method} at {outcome.share:g}"
            if place not in places:
                places.append(place)
    return "\n".join(f"- {error}: {'; '.join(places)}." for error, places in found.items())


def _told(error: str) -> str:
    """The first line of an error; how much was asked for differs from run to run."""
    line = error.split("\n")[0]
    before, found, _ = line.partition("RuntimeError: [enforce fail at alloc_cpu")
    return f"{before}the allocator's error" if found else f"`{line[:120]}`"


def _methods(outcomes: Sequence[BatchOutcome]) -> str:
    run = {outcome.method for outcome in outcomes}
    return table(("method", "source"), [(named(one.name), one.source) for one in METHODS if one.name in run], words=2)


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
