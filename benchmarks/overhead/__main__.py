"""The command ``python -m benchmarks.overhead``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.overhead import BAR_PERCENT, bar_percent, measure, section


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; with ``--check`` the exit status says whether the bar is held."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description="measure what the automations cost in a training step"
    )
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="under 25 seconds instead of 5 minutes")
    effort.add_argument("--full", action="store_true", help="about 20 minutes, memory after 100,000 steps included")
    parser.add_argument(
        "--check", action="store_true", help=f"exit with 1 where the bar of {BAR_PERCENT:g} %% is missed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    measured = measure(quick=options.quick, full=options.full)
    if options.json is not None:
        options.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(section(measured), end="")
    return 1 if options.check and bar_percent(measured) >= BAR_PERCENT else 0


if __name__ == "__main__":
    sys.exit(main())
