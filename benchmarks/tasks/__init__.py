"""What is trained on the scoreboard. A new task is a file beside this one and a name in ``TASKS``."""

from __future__ import annotations

from benchmarks.tables import row_named
from benchmarks.tasks.characters import CHARACTERS
from benchmarks.tasks.photographs import PHOTOGRAPHS
from benchmarks.tasks.snippets import SNIPPETS
from benchmarks.tasks.tabular import BREAST_CANCER, DIABETES, WINE
from benchmarks.tasks.task import Splits, Task
from benchmarks.tasks.textures import TEXTURES

__all__ = ["TASKS", "Splits", "Task", "task_named"]

TASKS: tuple[Task, ...] = (PHOTOGRAPHS, CHARACTERS, BREAST_CANCER, WINE, DIABETES, TEXTURES, SNIPPETS)


def task_named(name: str) -> Task:
    """The task of this name.

    Raises:
        ValueError: If there is none.
    """
    return row_named(name, TASKS)
