"""What a process may allocate, and what it has: Linux only."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PeakWatch", "limited", "reserved_bytes"]

_STATUS = Path("/proc/self/status")
_RESET_PEAK = Path("/proc/self/clear_refs")
_EVERY_SECONDS = 0.004


def reserved_bytes() -> int:
    """Private memory that the process has reserved, touched or not: what ``RLIMIT_DATA`` counts."""
    return _status("VmData")


class PeakWatch:
    """By how much memory rises, from when this is made.

    ``RLIMIT_DATA`` counts what is reserved, whose peak the kernel does not keep: a thread looks every few milliseconds.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._peak = 0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()  # first: its stack counts as reserved
        self._reserved = reserved_bytes()
        _RESET_PEAK.write_text("5", encoding="utf-8")
        self._touched = _status("VmRSS")

    def end(self) -> int:
        """Stop looking; the peak of what was reserved above the start."""
        self._ended.set()
        self._thread.join()
        return max(0, self._peak - self._reserved)

    def touched_rise(self) -> int:
        """The kernel's own peak of what was touched, exact, unless somebody else has reset it: our automations do."""
        return _status("VmHWM") - self._touched

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self._peak = max(self._peak, reserved_bytes())


@contextmanager
def limited(room_bytes: int | None) -> Iterator[None]:
    """Let the process reserve only so much more than it has now; None: no limit."""
    if room_bytes is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (reserved_bytes() + room_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _status(name: str) -> int:
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
