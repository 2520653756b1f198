"""What all automations together cost in a training step, against a bar of 1 % of a step of 20 ms.

Wall-clock time of identical code varies by several percent from run to run on a shared machine, so it cannot show 1 %.
The figure that counts is measured directly: the time inside our own functions, plus what Lightning needs to call that
many callbacks that do nothing. Alternating runs with and without the automations are shown beside it.

    python -m benchmarks.overhead [--quick | --full] [--check] [--json FILE]
"""

from benchmarks.overhead.measuring import measure
from benchmarks.overhead.section import BAR_PERCENT, bar_percent, section

__all__ = ["BAR_PERCENT", "bar_percent", "measure", "section"]
