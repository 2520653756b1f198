"""Reads the numbers that Lightning's loggers have left on the disk."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning_automations.reporting.record import Series

__all__ = ["read_csv", "read_events", "read_logged"]

Values = Mapping[str, Series]

CSV_NAME = "metrics.csv"
_EVENTS = "events.out.tfevents.*"
_NOT_VALUES = ("step", "epoch", "hp_metric")


def read_logged(folders: Iterable[Path]) -> tuple[Values, list[str]]:
    """Every logged value by name, and in words what could not be read.

    Args:
        folders: Where loggers wrote; what the first of them has is not taken from a later one.
    """
    series: dict[str, Series] = {}
    problems: list[str] = []
    for folder in dict.fromkeys(folders):
        readers: list[tuple[Callable[[Path], Values], Path]]
        readers = [(read_csv, folder / CSV_NAME)] if (folder / CSV_NAME).is_file() else []
        readers += [(read_events, folder)] if any(folder.glob(_EVENTS)) else []
        for reader, place in readers:
            found = _tried(reader, place, problems)
            series |= {name: values for name, values in found.items() if name not in series}
    if not series and not problems:
        problems.append(f"No logged numbers were found ({CSV_NAME} or TensorBoard's event files): no curves.")
    return series, problems


def _tried(reader: Callable[[Path], Values], place: Path, problems: list[str]) -> Values:
    try:
        return reader(place)
    except (OSError, ValueError, csv.Error, ModuleNotFoundError) as error:
        problems.append(f"{place.name} could not be read ({error}).")
        return {}


def read_csv(path: Path) -> Values:
    """What Lightning's ``CSVLogger`` wrote. Lightning numbers steps from 0; here they are steps done.

    Raises:
        OSError: If the file cannot be read.
        csv.Error: If it is no CSV.
        ValueError: If it has no column ``step``.
    """
    points: dict[str, dict[int, float]] = {}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = csv.DictReader(file)
        if "step" not in (rows.fieldnames or ()):
            raise ValueError("it has no column 'step'")
        for row in rows:
            step = _number(row["step"])
            if step is None or not step.is_integer():
                continue
            for name, text in row.items():
                value = _number(text)
                if name is not None and name not in _NOT_VALUES and value is not None:
                    points.setdefault(name, {})[int(step) + 1] = value
    return {name: _series(values) for name, values in points.items()}


def read_events(folder: Path) -> Values:
    """The scalars of TensorBoard's event files, where the package ``tensorboard`` is installed.

    Raises:
        ModuleNotFoundError: If it is not.
    """
    if find_spec("tensorboard") is None:
        raise ModuleNotFoundError("event files are read where the package tensorboard is installed")
    module: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(folder), size_guidance={module.SCALARS: 0})
    events.Reload()
    names = [name for name in events.Tags()[module.SCALARS] if name not in _NOT_VALUES]
    return {name: _series({item.step + 1: item.value for item in events.Scalars(name)}) for name in names}


def _series(points: Mapping[int, float]) -> Series:
    steps = tuple(sorted(points))
    return Series(steps, tuple(points[step] for step in steps))


def _number(text: object) -> float | None:
    if not isinstance(text, str) or not text:
        return None
    try:
        return float(text)
    except ValueError:
        return None
