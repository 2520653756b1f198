"""The last sections: the negative control, scenarios, tasks and methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.outcome import Outcome
from benchmarks.report.reading import SCENARIO_CHANGES
from benchmarks.report.text import named, table
from benchmarks.scenarios import SCENARIOS
from benchmarks.scoring import CONTROL, PLAIN, References, same_as_plain

__all__ = ["changes_section", "control_section", "methods_section", "scenarios_section", "tasks_section"]


def control_section(outcomes: Iterable[Outcome]) -> str:
    """Whether what does nothing scored exactly like plain Lightning."""
    listed = list(outcomes)
    places: dict[str, set[tuple[str, str, str, int]]] = {CONTROL: set(), PLAIN: set()}
    for cell in (outcome.cell for outcome in listed if outcome.cell.method in places):
        places[cell.method].add((cell.task, cell.optimizer, cell.scenario, cell.seed))
    compared = places[CONTROL] & places[PLAIN]
    if not compared:
        return f"No runs of `{CONTROL}` beside plain Lightning."
    differences = same_as_plain(listed, CONTROL)
    if not differences:
        return f"`{CONTROL}`: score and test loss of {len(compared)} runs are exactly those of plain Lightning."
    rows = [(str(one.cell), one.figure, str(one.plain), str(one.other)) for one in differences]
    return f"`{CONTROL}` differs from plain Lightning:\n\n" + table(
        ("run", "figure", "plain", "control"), rows, words=2
    )


def scenarios_section() -> str:
    """All scenarios with their strengths."""
    rows = [
        (
            one.name,
            one.summary,
            one.family.value,
            "yes" if one.finite else "no",
            "yes" if one.within_bounds else "no",
        )
        for one in SCENARIOS
    ]
    return table(("scenario", "what happens", "kind", "finite", "in the headline"), rows, words=5)


def tasks_section(references: References, summaries: Mapping[str, str]) -> str:
    """All tasks with what runs are held against."""
    rows = [
        (
            f"{task}{' (held out)' if one.held_out else ''}",
            summaries.get(task, ""),
            optimizer,
            f"{one.score:.4g}",
            f"{one.margin:g}",
            f"{one.loss:.4g}",
            str(one.sample_budget),
        )
        for (task, optimizer), one in references.items()
    ]
    head = ("task", "what it is", "optimizer", "reference score", "margin", "reference loss", "budget of samples")
    return table(head, rows, words=3)


def methods_section(sources: Mapping[str, str]) -> str:
    """Where each method comes from and how it was set."""
    return table(
        ("method", "source and settings"), [(named(name), source) for name, source in sources.items()], words=2
    )


def changes_section() -> str:
    """What was changed about the scenarios since they were first committed."""
    return "\n".join(f"- {change}" for change in SCENARIO_CHANGES) or "None."
