"""The scoreboard's commands: ``python -m benchmarks quick | run | full | report``.

``quick`` is a first look, ``run`` has one seed a cell, ``full`` has all seeds and writes what is committed:
``benchmarks/results`` and ``benchmarks/RESULTS.md``. The others write to ``build/bench``. What was cut off goes on
where it stood, unless the code has changed since. ``report`` writes RESULTS.md anew from the committed results.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from benchmarks.measuring import MODES, CannotStart, measure, report
from benchmarks.workers import quiet_worker


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the files, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=_Lines)
    parser.add_argument("command", choices=[*MODES, "report"], help="what to measure")
    parser.add_argument("--workers", type=_one_or_more, default=os.cpu_count() or 1, help="default: one a core")
    parser.add_argument("--seeds", type=_one_or_more, help="so many seeds instead of the usual number")
    options = parser.parse_args(arguments)
    quiet_worker()
    started = time.monotonic()
    try:
        if options.command == "report":
            print(report())
            return 0
        print(measure(MODES[options.command], workers=options.workers, seeds=options.seeds))
    except CannotStart as problem:
        print(problem, file=sys.stderr)
        return 2
    print(f"{time.monotonic() - started:.0f} s")
    return 0


def _one_or_more(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more, got {text!r}")
    return int(text)


class _Lines(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description as they are."""


if __name__ == "__main__":
    sys.exit(main())
