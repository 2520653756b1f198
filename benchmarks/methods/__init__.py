"""All methods of the scoreboard, in the order of its tables.

A peer is a row in the table of its file. Its package is imported where the row is used, so that this table can be read
where no peer is installed.
"""

from __future__ import annotations

from benchmarks.methods.clipping import CLIPPERS
from benchmarks.methods.method import Method
from benchmarks.methods.optimizers import OPTIMIZERS
from benchmarks.methods.ours import OURS
from benchmarks.methods.plain import NOISE, PLAIN
from benchmarks.methods.rates import SCHEDULERS
from benchmarks.tables import row_named

__all__ = ["METHODS", "method_named"]

METHODS: tuple[Method, ...] = (PLAIN, NOISE, *CLIPPERS, *SCHEDULERS, *OPTIMIZERS, *OURS)


def method_named(name: str) -> Method:
    """The method of this name.

    Raises:
        ValueError: If there is none.
    """
    return row_named(name, METHODS)
