"""Keeps outcomes while they come in, so that a measurement goes on where it was cut off, and writes result files."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

__all__ = [
    "PARTS",
    "ROOT",
    "Progress",
    "fingerprint",
    "finite_or_none",
    "missing_packages",
    "provenance",
    "read_json",
    "write_json",
]

ROOT = Path(__file__).parent.parent
# What each part depends on, below the root. After a change there it is measured anew; how it is put on a page
# (`section.py`) is no part of it.
_TASKS = ("benchmarks/tasks", "benchmarks/results/tuned.json")
_OUR_METHODS = "benchmarks/methods/ours.py"
_OURS = ("lightning_automations", "benchmarks/configurations", "example_configs")
_METHODS = (
    "benchmarks/methods",
    "benchmarks/job.py",
    "benchmarks/running.py",
    "benchmarks/tables.py",
    "benchmarks/workers.py",
)
_RUNS = (*_TASKS, *_METHODS, "benchmarks/scenarios.py", "benchmarks/outcome.py")
_CODE = {
    "runs of peers": _RUNS,
    "runs of ours": (*_RUNS, *_OURS),
    "stopping": (
        # rules are replayed when the page is written
        *(f"benchmarks/stopping/{name}.py" for name in ("jobs", "recording", "curve")),
        "benchmarks/tasks",
        "benchmarks/methods/method.py",
        "lightning_automations/cli/demo",
    ),
    "batch": (*_OURS, *_TASKS, *_METHODS, "benchmarks/batch"),
    "overhead": (*_OURS, "benchmarks/overhead"),
}
PARTS = ("runs", "stopping", "batch", "overhead")
"""Of the results, each in a file of its own."""
_PACKAGES = (
    "torch", "lightning", "numpy", "scipy", "scikit-learn", "scikit-image", "zclip", "autoclip", "timm",
    "pytorch_optimizer", "transformers", "schedulefree", "prodigyopt", "momo-opt", "keras", "accelerate",
)  # fmt: skip


class Progress:
    """Rows that were measured by the code as it is now, one JSON object a line.

    Args:
        path: The file, made when the first row is added.
        fingerprint: Of the code. Rows of other code in the file are passed over.
    """

    def __init__(self, path: Path, *, fingerprint: str) -> None:
        self.path = path
        self._fingerprint = fingerprint

    def rows(self) -> list[dict[str, Any]]:
        """All rows of this code. A line that was cut off is passed over: its run is made again."""
        if not self.path.exists():
            return []
        parsed = map(_parsed, self.path.read_text(encoding="utf-8").splitlines())
        return [line["row"] for line in parsed if line is not None and line["code"] == self._fingerprint]

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; it is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"code": self._fingerprint, "row": dict(row)})
        with self.path.open("a+", encoding="utf-8") as file:
            # In front of it too: what an earlier command was cut off in must not swallow this row.
            file.write(f"\n{line}\n" if file.tell() else f"{line}\n")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        parsed: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return parsed


def fingerprint(part: str) -> str:
    """Of all that a part depends on, installed versions included.

    Args:
        part: ``runs of peers``, ``runs of ours``, ``stopping``, ``batch`` or ``overhead``.
    """
    digest = hashlib.sha256(json.dumps(versions()).encode())
    files = {file for name in _CODE[part] for file in _files(ROOT / name)}
    if part == "runs of peers":
        files.discard(ROOT / _OUR_METHODS)
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for file in path.rglob("*"):
        if file.suffix in {".py", ".yml"} and file.name != "section.py":
            yield file


def versions() -> dict[str, str]:
    """Of Python and of the packages that take part; those that are not installed are left out."""
    installed = {distribution.name.lower(): distribution.version for distribution in distributions()}
    taking_part = {package: installed[package] for package in _PACKAGES if package in installed}
    return {"python": platform.python_version(), **taking_part}


def missing_packages() -> list[str]:
    """Those of the packages that take part which are not installed."""
    return [package for package in _PACKAGES if package not in versions()]


def provenance() -> dict[str, Any]:
    """Where and with what something was measured; nothing that names the machine."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.system(),
        },
        "versions": versions(),
    }


def _processor() -> str:
    """The model, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def read_json(path: Path) -> Any:
    """What a result file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def finite_or_none(value: Any) -> Any:
    """What JSON can hold: a number that is not finite becomes None, anything else stays as it is."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(
    path: Path, head: Mapping[str, Any], rows: Iterable[Mapping[str, Any]] = (), *, name: str = "rows"
) -> None:
    """A result file: what was measured with what, then one row a line, so that a diff can be read."""
    text = json.dumps(dict(head), indent=1)[:-2]
    lines = ",\n".join(json.dumps(dict(row)) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{text},\n "{name}": [\n{lines}\n]\n}}\n', encoding="utf-8")
