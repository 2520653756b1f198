"""What every other method is compared with."""

from __future__ import annotations

from benchmarks.methods.method import Method, Study

__all__ = ["PLAIN"]

PLAIN = Method(
    name="plain",
    source="Lightning with the user's optimizer: no clipping, a constant learning rate",
    studies=frozenset(Study),
)
