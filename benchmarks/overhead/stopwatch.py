"""Time inside our own functions, without the time that they spend inside Lightning's."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up time by the name of the function that it was spent in.

    Functions of ours and of Lightning's call each other in turn. The watch runs while the innermost of those that it
    knows is ours, and the time goes to that one. Its own work, about 0.1 us for each call, is counted with ours.

    Args:
        clock: Seconds, from whenever.

    Example:
        >>> ticks = iter([0.0, 2.0])
        >>> watch = Stopwatch(clock=lambda: next(ticks))
        >>> watch.ours(lambda: None, "hook")()
        >>> watch.seconds["hook"]
        2.0
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self._clock = clock
        self._name: str | None = None
        self._since = 0.0

    @property
    def runs(self) -> bool:
        """Whether time is being counted now."""
        return self._name is not None

    def reset(self) -> None:
        """Forget what was counted; what is running goes on from now."""
        self.seconds.clear()
        self.calls.clear()
        self._since = self._clock()

    def ours(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, its time counted under a name."""
        return self._switching(function, name)

    def lightnings(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time left out."""
        return self._switching(function, None)

    def _switching(self, function: Callable[..., Any], name: str | None) -> Callable[..., Any]:
        clock = self._clock

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            before = self._name
            if before is not None:
                self._book(clock())
            if name is not None:
                self.calls[name] += 1
            self._name = name
            self._since = clock()
            try:
                return function(*args, **kwargs)
            finally:
                now = clock()
                if name is not None:
                    self._book(now)
                self._name = before
                self._since = now

        return counted

    def _book(self, now: float) -> None:
        if self._name is not None:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._since
