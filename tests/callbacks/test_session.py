"""What automations share in one fit, and how ranks come to one reading."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.callbacks.helpers import run_script

ROOT = Path(__file__).parents[2]


def test_two_ranks_agree_and_retire_together(tmp_path: Path) -> None:
    """A failure on rank 1 retires both ranks at the next decision; differing readings become one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    del environment["LIGHTNING_AUTOMATIONS_ON_ERROR"]
    run_script(Path(__file__).with_name("script_rank_failure.py"), str(tmp_path), environment=environment)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0]["steps"] == 16
    assert ranks[0]["retired"]
    assert ranks[0]["adjustments"] == [4]
    assert ranks[0]["seen"] == 4 * [{"loss": 0.5, "high": 1.0, "low": 0.0, "own": 7.0}]
