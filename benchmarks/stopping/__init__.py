"""Stopping rules, compared by replay on recorded curves."""

from benchmarks.stopping.replay import Replay, replayed
from benchmarks.stopping.section import section
from benchmarks.stopping.study import measure

__all__ = ["Replay", "measure", "replayed", "section"]
