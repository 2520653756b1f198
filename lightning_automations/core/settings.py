"""What the settings of all automations have in common."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from annotated_types import Ge
from typing_extensions import Self

from lightning_automations.core.checking import checked
from lightning_automations.core.errors import ConfigError, Problem, nearest
from lightning_automations.core.recorded import snake_case

__all__ = ["SECTION_SETTINGS", "AutomationSettings", "RunLength"]

SECTION_SETTINGS = ("enabled", "journal", "dry_run", "report", "progress_bar")
"""Settings that may stand on the section; all but the first hold there for every automation without its own."""


@dataclass(frozen=True, kw_only=True)
class RunLength:
    """How long a fit will be, as far as it is known at its start.

    Args:
        steps: Optimizer steps of the whole run, or None.
        epochs: Epochs of the whole run, or None.
    """

    steps: int | None = None
    epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class AutomationSettings:
    """Settings that every automation has. Types and ranges are checked where the object is made.

    Args:
        enabled: Whether the automation is used at all.
        max_adjustments: Changes it may make before it retires to its fallback, 0 or more; None: no limit.
        fallback: What holds once it has retired.
        on_error: ``fallback`` retires the automation on an unexpected error, ``raise`` lets the error through.
        dry_run: Decide and record, change nothing.
        journal: ``auto`` writes ``automations.jsonl`` into the trainer's log folder when there is a logger; a path
            writes there; False writes nothing.
        report: True writes ``report.html`` beside the journal when training ends, a path writes it there. About 2 MB,
            and about a second after the last step; needs the extra ``report``.
        progress_bar: Show a few values in the progress bar, as often as the trainer logs.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, or contradicts another.
    """

    automation: ClassVar[str] = ""
    ordered: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of settings of which the first must not be above the second."""
    shares_of_steps: ClassVar[Mapping[str, float]] = {}
    """Settings in optimizer steps that are not written: the largest share of the run's steps they may take."""
    shares_of_epochs: ClassVar[Mapping[str, float]] = {}
    """The same for settings in epochs."""

    enabled: bool = True
    max_adjustments: Annotated[int, Ge(0)] | None = None
    fallback: Mapping[str, Any] = field(default_factory=dict)
    on_error: Literal["fallback", "raise"] = "fallback"
    dry_run: bool = False
    # bool stands first: jsonargparse would take the `false` of a command line for the name of a file
    journal: bool | str = "auto"
    report: bool | str = False
    progress_bar: bool = False

    def __post_init__(self) -> None:
        problems: list[Problem] = []
        unsound: list[str] = []
        for name, hint in type(self).types().items():
            value, found = checked(getattr(self, name), hint, path=name)
            problems += found
            if found:
                unsound.append(name)
            else:
                object.__setattr__(self, name, value)
        problems += self._contradictions_beside(unsound) if unsound else self._contradictions()
        if problems:
            raise ConfigError(problem.under(self.automation) for problem in problems)

    @classmethod
    @cache
    def types(cls) -> dict[str, Any]:
        """Every setting's name and annotated type, in the order of declaration."""
        hints = get_type_hints(cls, include_extras=True)
        return {item.name: hints[item.name] for item in fields(cls)}

    @classmethod
    def names(cls) -> tuple[str, str]:
        """The automation's name, as the YAML may write it: in CamelCase and in snake_case."""
        return cls.automation, snake_case(cls.automation)

    @classmethod
    def signature(cls) -> inspect.Signature:
        """The signature of a constructor that takes every setting by keyword, with its type and default."""
        defaults = cls()
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=getattr(defaults, name))
            for name, hint in cls.types().items()
        ]
        return inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *parameters])

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Settings from names and values, with unknown names and wrong values reported together.

        Raises:
            ConfigError: Lists every problem.
        """
        known = list(cls.types())
        problems = [
            Problem(
                path=f"{cls.automation}.{name}",
                expected=f"a setting of {cls.automation}",
                got=f"the unknown name {name!r}",
                hint=nearest(str(name), known) or f"Known names: {', '.join(known)}.",
            )
            for name in values
            if name not in known
        ]
        try:
            settings = cls(**{name: value for name, value in values.items() if name in known})
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems]) from None
        if problems:
            raise ConfigError(problems)
        return settings

    @classmethod
    def names_written(cls, values: Mapping[str, Any]) -> frozenset[str]:
        """Which of these settings the user wrote. LightningCLI passes all of them: then the defaults do not count."""
        if set(values) < set(cls.types()):
            return frozenset(values)
        defaults = vars(cls())
        return frozenset(name for name, value in values.items() if name in defaults and value != defaults[name])

    def fitted(self, run: RunLength, written: Iterable[str]) -> Self:
        """These settings with the counts that were not written shortened to a run that is too short for them.

        Args:
            run: Length of the run.
            written: Names of the settings that the user wrote; they are left as they are.
        """
        changes: dict[str, int] = {}
        for shares, length in ((self.shares_of_steps, run.steps), (self.shares_of_epochs, run.epochs)):
            for name, share in shares.items():
                if length is not None and name not in written:
                    # a run of no steps at all shortens to one: no count may fall out of its range
                    changes[name] = min(getattr(self, name), max(1, math.ceil(share * length)))
        return replace(self, **changes)  # type: ignore[arg-type]  # names of settings, checked when the object is made

    def contradictions(self) -> Iterable[Problem]:
        """Problems between several settings; each names in its path and ``expected`` all settings that it is about.

        Automations add their own.
        """
        return ()

    def _contradictions(self) -> Iterable[Problem]:
        for low, high in self.ordered:
            if getattr(self, low) > getattr(self, high):
                yield Problem(
                    path=low,
                    expected=f"at most {high} ({getattr(self, high)})",
                    got=str(getattr(self, low)),
                    hint=f"Lower {low} or raise {high}.",
                )
        if self.journal is False and self.report is not False:
            yield Problem(
                path="report",
                expected="false, for journal is false too",
                got=repr(self.report),
                hint="A report is made from the journal: leave journal out, or give it a path.",
            )
        yield from self.contradictions()

    def _contradictions_beside(self, unsound: Sequence[str]) -> Iterable[Problem]:
        """Those that are about none of the settings that are wrong by themselves, whose defaults take their places."""
        sound = object.__new__(type(self))
        for name, value in {**vars(self), **self._defaults(unsound)}.items():
            object.__setattr__(sound, name, value)
        if any(checked(getattr(sound, name), self.types()[name], path=name)[1] for name in unsound):
            return []  # a default of its class is wrong
        named = re.compile(rf"\b(?:{'|'.join(unsound)})\b")
        return [
            problem for problem in sound._contradictions() if not named.search(f"{problem.path} {problem.expected}")
        ]

    @classmethod
    def _defaults(cls, names: Sequence[str]) -> dict[str, Any]:
        return {
            item.name: item.default if item.default_factory is MISSING else item.default_factory()
            for item in fields(cls)
            if item.name in names
        }
