"""Starts the process that makes runs under a limit of memory, and talks with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Launcher"]

_ROOT = Path(__file__).parents[2]
_GLIBC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""Under these what a process frees is free again: one arena, and tensors outside of it."""


class Launcher:
    """One process that makes one run at a time, each in a process of its own.

    Example:
        >>> with Launcher() as launcher:
        ...     answer = launcher.run(request)  # doctest: +SKIP
    """

    def __init__(self) -> None:
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            **_GLIBC,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.batch.child"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What came of one run.

        Raises:
            RuntimeError: If the study itself failed, not the run.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(dict(request)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that makes the runs ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "broken" in answer:
            raise RuntimeError(f"a run could not be made or judged:\n{answer['broken']}")
        return answer

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            if error is not None:
                self._process.kill()
