"""``lightning-automations check``: says how the automations stand in training configurations."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_automations.cli.fallback import CHECKS
from lightning_automations.config.analysis.facts import read_facts
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.diagnosis.finding import Diagnosis, Finding, Status
from lightning_automations.config.diagnosis.output import Unreadable, as_json, as_markdown, verdict
from lightning_automations.config.migration.migrating import migrated
from lightning_automations.core.errors import ConfigError

__all__ = ["run_check"]

SOUND, FINDINGS, UNREADABLE = 0, 1, 2
_STYLES: Mapping[Status, str] = {
    Status.INVALID: "bold red",
    Status.WITHOUT_EFFECT: "red",
    Status.OLD_STYLE: "yellow",
    Status.MISSING: "yellow",
    Status.PARTLY: "yellow",
    Status.RIGHT: "green",
}


def run_check(files: Sequence[Path], *, form: str, strict: bool, samples: int | None, steps: int | None) -> int:
    """Print a diagnosis of each file; no file is changed.

    Args:
        files: Training configurations, one or more.
        form: ``table``, ``json`` or ``markdown``.
        strict: Whether notes count as findings.
        samples: Samples of an epoch, where the files do not tell.
        steps: Optimizer steps of the run, where the files do not tell.

    Returns:
        The exit status: 0 where nothing is to be mended, 1 where something is, 2 where a file cannot be read.
    """
    results = [_result(file, samples=samples, steps=steps) for file in files]
    if form == "json":
        print(json.dumps(as_json(results, strict=strict), indent=2))
    elif form == "markdown":
        print("\n".join(_markdown(result) for result in results), end="")
    else:
        _print_tables(results)
    if any(isinstance(result, Unreadable) for result in results):
        return UNREADABLE
    sound = all(isinstance(result, Diagnosis) and result.is_sound(strict=strict) for result in results)
    return SOUND if sound else FINDINGS


def _result(file: Path, *, samples: int | None, steps: int | None) -> Diagnosis | Unreadable:
    try:
        return diagnose(read_facts(file, samples=samples, steps=steps, checks=CHECKS))
    except ConfigError as error:
        # What is wrong with a file as a whole is told at its first line.
        first = 1 if file.is_file() else None
        problems = (replace(problem, line=problem.line or first) for problem in error.problems)
        return Unreadable(file=str(file), problems=tuple(problems))


def _markdown(result: Diagnosis | Unreadable) -> str:
    if isinstance(result, Unreadable):
        problems = "\n".join(f"- {problem}" for problem in result.problems)
        return f"# `{result.file}` cannot be read\n\n{problems}\n"
    return as_markdown(result, change="" if result.file is None else _change(Path(result.file)))


def _change(file: Path) -> str:
    """What ``migrate`` would change, as a diff."""
    old = file.read_text(encoding="utf-8-sig")
    try:
        new = migrated(old, str(file), checks=CHECKS)
    except ConfigError:
        return ""
    return "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), str(file), str(file), lineterm=""))


def _print_tables(results: Iterable[Diagnosis | Unreadable]) -> None:
    console = Console(highlight=False)
    for result in results:
        if isinstance(result, Unreadable):
            console.print(Text(f"{result.file}: cannot be read", style="bold red"))
            for problem in result.problems:
                console.print(Text(str(problem)))
        else:
            console.print(Text(f"{result.file}: {verdict(result)}", style="bold"))
            console.print(_table(result))


def _table(diagnosis: Diagnosis) -> Table:
    table = Table(show_header=False, show_lines=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for subject in diagnosis.subjects:
        heading = Text(f"{subject.name}\n").append(subject.status.value, style=_STYLES[subject.status])
        told = [_told(finding) for finding in subject.findings] or [Text(subject.present)]
        table.add_row(heading, Text("\n").join(told))
    return table


def _told(finding: Finding) -> Text:
    """Where it is, then what is there, why it matters and what to do."""
    place = [] if finding.line is None else [f"line {finding.line}"]
    place += [finding.path] if finding.path else []
    place += ["note"] if finding.note else []
    told = Text(f"{', '.join(place)}\n" if place else "", style="dim")
    told.append(f"{finding.found}: {finding.why}. ", style="not dim")
    return told.append(finding.mend, style="not dim bold")
