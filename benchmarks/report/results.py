"""The whole of RESULTS.md, section by section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.outcome import Outcome
from benchmarks.report.appendix import (
    changes_section,
    control_section,
    methods_section,
    scenarios_section,
    tasks_section,
)
from benchmarks.report.headline import headline_section, missed_bars, of_defaults
from benchmarks.report.losing import losing_section
from benchmarks.report.measured import measured
from benchmarks.report.reading import HOW_TO_READ
from benchmarks.report.studies import study_section
from benchmarks.report.text import STUDY_TITLES
from benchmarks.scoring import CONTROL, MemoryRun, References, Run, headline, judge, losses

__all__ = ["render"]

_TITLE = "# Results of the scoreboard\n\nWritten by `python -m benchmarks`; edits are lost with the next measurement."


def render(
    *,
    outcomes: Iterable[Outcome],
    references: References,
    studies: Mapping[str, Sequence[str]],
    machine: Mapping[str, Any],
    sections: Mapping[str, str],
    plots_folder: Path,
    tasks: Mapping[str, str] | None = None,
    methods: Mapping[str, str] | None = None,
    extra: Sequence[MemoryRun] = (),
    overhead_percent: float | None = None,
) -> str:
    """RESULTS.md as a string; the plots are written.

    Args:
        outcomes: All runs.
        references: For each task and optimizer that occurs.
        studies: Names of the methods of the studies ``clipping``, ``rate`` and ``together``, in their tables' order.
        machine: ``date``, ``machine`` and ``versions``, as in the result files.
        sections: Markdown of further sections by their titles, which follow the studies.
        plots_folder: Gets the PNG files; RESULTS.md is expected to lie beside this folder.
        tasks: Summaries of the tasks by their names.
        methods: Sources and settings of the methods by their names.
        extra: Runs with batches that may not fit memory: they count in the headline.
        overhead_percent: Of a step of 20 ms; None when it was not measured.

    Raises:
        ValueError: If a cell occurs twice or has no reference, or a study has methods of ours but none with the
            defaults.
    """
    listed = list(outcomes)
    runs = judge(listed, references)
    together = [method for method in studies.get("together", ()) if method != CONTROL]
    headlines = headline(runs, together, extra=extra)
    missed = missed_bars(of_defaults(headlines), overhead_percent)
    plots = _plots(runs, studies, plots_folder)
    parts: dict[str, str] = {
        "What was measured": measured(runs, machine),
        "How to read it": HOW_TO_READ,
        "Headline": headline_section(headlines),
        "Where we lose": losing_section(losses(runs, studies), missed),
        **{
            title: "\n\n".join([*plots.get(study, ()), study_section(study, runs, studies[study])])
            for study, title in STUDY_TITLES.items()
            if study in studies
        },
        **sections,
        "Held-out task": _held_out(runs, studies, references),
        "Negative control": control_section(listed),
        "Scenarios": scenarios_section(),
        "Changes of scenarios": changes_section(),
        "Tasks": tasks_section(references, tasks or {}),
        "Methods": methods_section(methods or {}),
    }
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" for title, text in parts.items())
    return f"{_TITLE}\n\n{body}\n"


def _plots(runs: Sequence[Run], studies: Mapping[str, Sequence[str]], folder: Path) -> dict[str, list[str]]:
    """Links to the plots by study."""
    # Matplotlib takes a second to import, which the console's table does not need.
    from benchmarks.report.plots import clipping_plot, rate_plot

    plots = {
        "clipping": ("clipping.png", "Rescue and harm of clipping methods", clipping_plot),
        "rate": ("learning_rate.png", "Loss left at rates that are off", rate_plot),
    }
    return {
        study: [f"![{title}]({folder.name}/{file})"]
        for study, (file, title, plot) in plots.items()
        if study in studies and plot(folder / file, runs, studies[study])
    }


def _held_out(runs: Sequence[Run], studies: Mapping[str, Sequence[str]], references: References) -> str:
    """The studies again, on the held-out task alone, one level further down."""
    names = sorted({task for (task, _), reference in references.items() if reference.held_out})
    parts = [f"{', '.join(names) or 'No task'}: kept out of all design work, and in none of the tables above but the "]
    parts[0] += (
        "headline. Where it stands in *Where we lose*, it is marked. Clean runs of plain torch were looked at while "
    )
    parts[0] += "it was made, and ours was seen on its job with too little memory (*Changes of scenarios*)."
    return "\n\n".join([*parts, *_studies_on_held_out(runs, studies)])


def _studies_on_held_out(runs: Sequence[Run], studies: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for study, title in STUDY_TITLES.items():
        if study in studies:
            yield f"### {title}"
            yield study_section(study, runs, studies[study], held_out=True).replace("### ", "#### ")
