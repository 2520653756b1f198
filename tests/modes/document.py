"""The table of docs/modes.md, printed from the rows that the tests run: ``python -m tests.modes.document``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.modes.ranks import WAYS_TO_START_RANKS
from tests.modes.table import MODES
from tests.registry import ROWS

__all__ = ["FILE", "document"]

FILE = Path(__file__).parents[2] / "docs" / "modes.md"

_HEAD = """# What works where

Every automation is trained in every way below, by itself and with all the others (`tests/modes`). In a cell with
*works* it acts in that run as it should; *stays out* means that it says so when the run begins, and leaves the run as
it is. In every row a dry run of all automations ends with the weights of plain Lightning, bit for bit.

"""


def document() -> str:
    """The whole page."""
    names = [str(row) for row in ROWS]
    rows = [
        ["way to train", *(f"`{name}`" for name in names)],
        ["---"] * (len(names) + 1),
        *([mode.name, *("stays out" if name in mode.stays_out else "works" for name in names)] for mode in MODES),
        *([f"two processes, {way}", *("works" for _ in names)] for way in WAYS_TO_START_RANKS),
    ]
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(document())
