"""Batches that do not fit memory: real out-of-memory errors, in processes that may allocate only so much."""

from benchmarks.batch.section import section, successes
from benchmarks.batch.study import measure

__all__ = ["measure", "section", "successes"]
