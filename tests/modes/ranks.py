"""How two processes are started."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["SCRIPT", "WAYS_TO_START_RANKS", "environment"]

SCRIPT = Path(__file__).with_name("script_ranks.py")
WAYS_TO_START_RANKS: Mapping[str, Sequence[str]] = {
    "Lightning's launcher": [sys.executable],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"],
}


def environment() -> dict[str, str]:
    """Of a process that finds the package and the tests."""
    return {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
