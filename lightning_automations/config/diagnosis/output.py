"""A diagnosis for programs, as JSON, and for readers, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from lightning_automations.config.diagnosis.finding import Diagnosis, Finding, Status, Subject
from lightning_automations.core.errors import Problem

__all__ = ["JSON_VERSION", "Unreadable", "as_json", "as_markdown", "verdict"]

JSON_VERSION = 1
"""Raised when a key is renamed or dropped; a new key is no new version."""


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A file of which nothing can be said.

    Args:
        file: Its path.
        problems: Why.
    """

    file: str
    problems: tuple[Problem, ...]


def as_json(results: Iterable[Diagnosis | Unreadable], *, strict: bool) -> dict[str, Any]:
    """All results as values that JSON knows.

    ``version``, and under ``files`` for each file ``file`` and ``readable``; ``problems`` (``path``, ``line``,
    ``expected``, ``got``, ``hint``) of one that is not, else ``sound`` and ``subjects`` (``name``, ``status``,
    ``present`` and ``findings``, each with the names of ``Finding``).

    Args:
        results: One a file.
        strict: Whether notes count against a file.
    """
    return {"version": JSON_VERSION, "files": [_file(result, strict=strict) for result in results]}


def _file(result: Diagnosis | Unreadable, *, strict: bool) -> dict[str, Any]:
    if isinstance(result, Unreadable):
        problems = [{name: value for name, value in asdict(one).items() if name != "file"} for one in result.problems]
        return {"file": result.file, "readable": False, "problems": problems}
    subjects = [
        {
            "name": subject.name,
            "status": subject.status.value,
            "present": subject.present,
            "findings": [{**asdict(finding), "status": finding.status.value} for finding in subject.findings],
        }
        for subject in result.subjects
    ]
    return {"file": result.file, "readable": True, "sound": result.is_sound(strict=strict), "subjects": subjects}


def verdict(diagnosis: Diagnosis) -> str:
    """One sentence on the whole file."""
    findings = [finding for subject in diagnosis.subjects for finding in subject.findings]
    notes = sum(finding.note for finding in findings)
    wrong = len(findings) - notes
    told = f"{wrong} finding{'s'[: wrong != 1]}" + (f" and {notes} note{'s'[: notes != 1]}" if notes else "")
    return f"{told}." if findings else "Nothing to mend."


def as_markdown(diagnosis: Diagnosis, *, change: str = "") -> str:
    """A document on one file.

    Args:
        diagnosis: Of the file.
        change: What ``migrate`` would change in it, as a unified diff; empty: nothing, or it cannot.
    """
    lines = [f"# Training automations in `{diagnosis.file or 'the configuration'}`", "", verdict(diagnosis), ""]
    lines += ["| | status |", "| --- | --- |"]
    lines += [f"| {subject.name} | {subject.status.value} |" for subject in diagnosis.subjects]
    for number, subject in enumerate(diagnosis.subjects, start=1):
        lines += ["", f"## {number}. {subject.name}: {subject.status.value}", *_body(subject)]
    if change:
        lines += ["", "## Recommended change", "", "```diff", *change.splitlines(), "```"]
    return "\n".join(lines) + "\n"


def _body(subject: Subject) -> Iterator[str]:
    if all(finding.found != subject.present for finding in subject.findings):
        yield from ("", _sentence(subject.present))
    if subject.findings:
        yield ""
    for finding in subject.findings:
        kind = "Note" if finding.note else "Issue" if finding.status is not Status.MISSING else "Missing"
        yield f"- **{kind}**{_place(finding)}: {_sentence(finding.found)} {_sentence(finding.why)}"
        yield f"  **Fix**: {finding.mend}"


def _place(finding: Finding) -> str:
    parts = [f"line {finding.line}"] if finding.line is not None else []
    parts += [f"`{finding.path}`"] if finding.path else []
    return f" ({', '.join(parts)})" if parts else ""


def _sentence(text: str) -> str:
    first = text.partition(" ")[0]
    # a dotted path is written as it is
    return f"{text}." if "." in first else f"{text[:1].upper()}{text[1:]}."
