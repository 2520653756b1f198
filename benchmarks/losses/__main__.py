"""The command ``python -m benchmarks.losses``: measures, writes the results, prints the section."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.losses.study import METHODS, SEEDS, measure, section
from benchmarks.losses.tasks import TASKS
from benchmarks.store import provenance, read_json, write_json
from benchmarks.workers import quiet_worker


def main(arguments: Sequence[str] | None = None) -> int:
    """Every method on every job, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.losses", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="of networks and orders of samples")
    parser.add_argument("--tasks", nargs="+", help="names of tasks (default: all)")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="(default: all)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the runs there; those of other methods stay"
    )
    options = parser.parse_args(arguments)
    quiet_worker()
    tasks = [task for task in TASKS if options.tasks is None or task.name in options.tasks]
    measured = measure(seeds=options.seeds, tasks=tasks, methods=options.methods)
    rows = [*_kept(options.json, options.methods), *(outcome.to_json() for outcome in measured)]
    if options.json is not None:
        write_json(options.json, {**provenance(), "seeds": options.seeds}, rows)
    sys.stdout.write(section(rows, tasks=tasks))
    return 0


def _kept(path: Path | None, measured: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a file whose methods are not measured again."""
    if path is None or not path.exists() or set(measured) == set(METHODS):
        return []
    return [row for row in read_json(path)["rows"] if row["method"] not in measured]


if __name__ == "__main__":
    sys.exit(main())
