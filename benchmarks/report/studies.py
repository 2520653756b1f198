"""The section of a study: a table for each group of scenarios, by task, by scenario, and what methods do and cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.report.text import DASH, figure, named, number, percent, quoted, share_text, table
from benchmarks.scoring import (
    CONTROL,
    GROUPS,
    PLAIN,
    Failure,
    Run,
    compare,
    failures,
    interventions,
    is_ours,
    matrix,
    of_study,
    optimizers_of,
    relative_seconds,
    select,
    sensitivities,
)

__all__ = ["study_section"]

_SENSITIVITY_IN = frozenset({"rate", "together"})


def study_section(study: str, runs: Sequence[Run], methods: Sequence[str], *, held_out: bool = False) -> str:
    """Markdown, or a sentence when there are no runs.

    Args:
        study: Its name.
        runs: All of the scoreboard.
        methods: Names of the methods of the study, in the order of its tables.
        held_out: The held-out task instead of the others.
    """
    shown = [method for method in methods if method != CONTROL]
    scenarios = [group.includes for group in GROUPS[study]]
    chosen = select(of_study(study, runs), methods=shown, held_out=held_out)
    here = [run for run in chosen if any(includes(run.scenario) for includes in scenarios)]
    if not here:
        return "No runs."
    present = [method for method in shown if any(run.method == method for run in here)]
    parts = [_configurations(present), *_compared(study, here, present)]
    if study in _SENSITIVITY_IN:
        parts += ["### Learning-rate sensitivity", _sensitivity(here, present)]
    parts += ["### Interventions on clean runs, failures, cost", _behaviour(here, present)]
    return "\n\n".join(parts)


def _configurations(methods: Sequence[str]) -> str:
    ours = [quoted(method) for method in methods if is_ours(method)]
    return f"Configurations of ours in these tables: {', '.join(ours) or 'none'}."


def _compared(study: str, runs: Sequence[Run], methods: Sequence[str]) -> Iterator[str]:
    """Groups of scenarios and optimizers, each with its table over tasks, by task and by scenario."""
    for group in GROUPS[study]:
        for optimizer in optimizers_of(runs):
            here = select(runs, methods=methods, group=group, optimizer=optimizer, held_out=runs[0].reference.held_out)
            if not here:
                continue
            present = [method for method in methods if any(run.method == method for run in here)]
            yield f"### {group.name.capitalize()}, {optimizer}"
            yield _comparison(here, present)
            if not here[0].reference.held_out:
                yield from _matrices(here, present)
            if len(present) < len(methods):
                absent = [quoted(method) for method in methods if method not in present]
                yield f"Without a run here: {', '.join(absent)}."


def _comparison(runs: Sequence[Run], methods: Sequence[str]) -> str:
    found = [compare(runs, method) for method in methods]
    rows = [
        (
            named(one.method),
            share_text(one.successes),
            DASH if one.method == PLAIN else share_text(one.rescued),
            DASH if one.method == PLAIN else share_text(one.harmed),
            str(one.missing),
        )
        for one in found
    ]
    return table(("method", "succeeded", "rescued", "harmed", "no partner"), rows)


def _matrices(runs: Sequence[Run], methods: Sequence[str]) -> Iterator[str]:
    """Successes by task and by scenario, where there is more than one."""
    for name, column in (("task", lambda run: run.place[0]), ("scenario", lambda run: run.scenario.name)):
        found = matrix(runs, column)
        columns = list(next(iter(found.values())))
        if len(columns) > 1:
            yield f"Successes by {name}:"
            rows = [(named(method), *(figure(found[method][one]) for one in columns)) for method in methods]
            yield table(("method", *columns), rows)


def _sensitivity(runs: Sequence[Run], methods: Sequence[str]) -> str:
    """One column for each task and optimizer."""
    found = sensitivities(runs)
    rows = []
    for method in methods:
        own = [by_method.get(method) for by_method in found.values()]
        figures = [
            DASH if one is None or one.mean is None else f"{number(one.mean, digits=3)} ({number(one.relative)})"
            for one in own
        ]
        rows.append((named(method), *figures))
    return table(("method", *(f"{task}, {optimizer}" for task, optimizer in found)), rows)


def _behaviour(runs: Sequence[Run], methods: Sequence[str]) -> str:
    """Shares of steps clipped and skipped and changes on clean runs; reasons of failures and seconds on all runs."""
    on_clean = {found.method: found for found in interventions(runs, methods)}
    failed = failures(runs, methods)
    rows = []
    for method in methods:
        clean, (seconds, pairs) = on_clean.get(method), relative_seconds(runs, method)
        changes = ", ".join(f"{name} {number(count)}" for name, count in clean.changes.items()) if clean else ""
        rows.append(
            (
                named(method),
                str(clean.runs if clean else 0),
                changes or DASH,
                _steps(clean.clipped if clean else None),
                _steps(clean.skipped if clean else None),
                *(str(failed[method][reason]) for reason in Failure),
                f"{number(seconds)} ({pairs})",
            )
        )
    head = ("method", "clean runs", "changes per clean run", "steps clipped", "steps skipped")
    reasons = tuple(reason.value for reason in Failure)
    return (
        "Changes and shares of steps are those of clean runs, where there is nothing to do; reasons of failures and "
        "seconds are those of all runs of the study. Both optimizers are counted. Seconds are a multiple of plain "
        "Lightning's in the same cell, the median with the number of pairs: a rough cost, and not the overhead "
        "figure.\n\n" + table((*head, *reasons, "seconds (pairs)"), rows)
    )


def _steps(value: float | None) -> str:
    return DASH if value is None else f"{percent(value, digits=1)} %"
