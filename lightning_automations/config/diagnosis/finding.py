"""What the doctor says: findings, gathered by what they are about."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from typing_extensions import Self

from lightning_automations.core.errors import Problem

__all__ = ["Change", "Diagnosis", "Finding", "Status", "Subject"]


class Status(str, Enum):
    """How something stands in a configuration, the worst first."""

    INVALID = "invalid"
    """It is written, and training would not start with it."""
    WITHOUT_EFFECT = "without effect"
    """It is written, and will do nothing in this run."""
    OLD_STYLE = "old style"
    """The file has an older or another means to the same end."""
    MISSING = "missing"
    """The file has nothing of the kind."""
    PARTLY = "partly"
    """It is there, and will not do all that it should."""
    RIGHT = "right"
    """It is there, and nothing speaks against it."""


@dataclass(frozen=True)
class Change:
    """A value that mends a finding.

    Args:
        path: Dotted path of the setting.
        value: What to write there.
    """

    path: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that should be otherwise, or that is worth knowing.

    Args:
        status: How it makes its subject stand.
        path: Dotted path of the setting; empty: the file as a whole.
        line: Line of the setting, counted from 1; None where no file was read.
        found: What is there, a sentence.
        why: Why it matters, a sentence.
        mend: What to do, a sentence.
        note: Whether it is worth knowing only: it may be meant, or cannot be judged from the file.
        change: A value that mends it, where one is as good as any other that would; None: the user has to choose.
    """

    status: Status
    path: str
    line: int | None
    found: str
    why: str
    mend: str
    note: bool = False
    change: Change | None = None

    @classmethod
    def of_problem(cls, problem: Problem) -> Self:
        """What keeps training from starting."""
        return cls(
            status=Status.INVALID,
            path=problem.path,
            line=problem.line,
            found=f"expected {problem.expected}, got {problem.got}",
            why="training does not start with it",
            mend=problem.hint or "Write what is expected.",
        )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An automation, loss scheduling, or the section as a whole.

    Args:
        name: Of the automation as it is called in a file.
        present: What the file has of it, a sentence.
        findings: In the order in which they were found.
    """

    name: str
    present: str
    findings: tuple[Finding, ...] = ()

    @property
    def status(self) -> Status:
        """The worst of its findings'."""
        found = {finding.status for finding in self.findings}
        return next((status for status in Status if status in found), Status.RIGHT)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found in one configuration.

    Args:
        file: Its path; None for a mapping.
        subjects: The section first, then the automations in the order of the documentation.
    """

    file: str | None
    subjects: tuple[Subject, ...]

    def to_mend(self) -> tuple[Finding, ...]:
        """What is to be mended, notes left out."""
        return tuple(finding for subject in self.subjects for finding in subject.findings if not finding.note)

    def changes(self) -> tuple[Change, ...]:
        """The values that mend what is to be mended."""
        return tuple(finding.change for finding in self.to_mend() if finding.change is not None)

    def is_sound(self, *, strict: bool = False) -> bool:
        """Whether there is nothing to mend.

        Args:
            strict: Whether what is worth knowing only counts, too.
        """
        return not self.to_mend() and not (strict and any(subject.findings for subject in self.subjects))
