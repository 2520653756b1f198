"""What is wrong with a configuration, said once and completely."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = ["ConfigError", "Problem", "nearest"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong in a configuration.

    Args:
        path: Dotted path of the setting, for example ``AdaptiveGradientClipping.min_threshold``; empty: the problem
            is the configuration as a whole.
        expected: What would have been right, for example ``a number above 0``.
        got: What was found, as text.
        hint: What to do about it, for example ``Did you mean 'min_threshold'?``.
        file: The file the setting was read from, if it was read from one.
        line: Line in that file, counted from 1.
    """

    path: str
    expected: str
    got: str
    hint: str | None = None
    file: str | None = None
    line: int | None = None

    def under(self, prefix: str) -> Problem:
        """The same problem, its path seen from one level further out."""
        return replace(self, path=f"{prefix}.{self.path}" if self.path else prefix)

    def moved(self, prefix: str, path: str) -> Problem:
        """The same problem under another path than the prefix: that of the file, which may name things otherwise."""
        return replace(self, path=path + self.path[len(prefix) :])

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        where = "".join(f"{part}: " for part in (place, self.path) if part)
        text = f"{where}expected {self.expected}, got {self.got}."
        return f"{text} {self.hint}" if self.hint else text


class ConfigError(ValueError):
    """The configuration is wrong; the message lists every problem that was found.

    Raised before training starts, by ``build_callbacks``, by a callback's constructor or by its ``setup``. The one
    exception is a metric that the user named and that no one logs: that is known after the first validation.

    Args:
        problems: Everything that is wrong, in the order of the file.

    Example:
        >>> raise ConfigError([Problem(path="min_threshold", expected="a number above 0", got="-1")])
        Traceback (most recent call last):
        ...
        lightning_automations.core.errors.ConfigError: min_threshold: expected a number above 0, got -1.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        return f"{len(self.problems)} problems in the configuration:\n{lines}"


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The question to ask about a name that is not known, or None where nothing comes close.

    >>> nearest("patiense", ["patience", "mode"])
    "Did you mean 'patience'?"
    >>> nearest("MAX", ["min", "max"])
    "Did you mean 'max'?"
    """
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not matches:
        # A name in capitals is the same name to whoever wrote it; little else may differ then.
        folded = {candidate.casefold(): candidate for candidate in known}
        matches = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.8)]
    return f"Did you mean {matches[0]!r}?" if matches else None
