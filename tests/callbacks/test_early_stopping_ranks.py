from __future__ import annotations

import json
import os
from pathlib import Path

from tests.callbacks.helpers import run_script

SCRIPT = Path(__file__).with_name("script_early_stopping.py")
ROOT = SCRIPT.parents[2]


def test_two_ranks_agree_on_the_mean_on_what_one_logs_and_on_nan(tmp_path: Path) -> None:
    """Same verdict, same step, same state, same weights, although no rank sees what the other sees."""
    run_script(SCRIPT, str(tmp_path), environment={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert one == other
    stops = {name: (result["steps"], result["adjustments"][0]["reason"]) for name, result in one.items()}
    # 8 steps an epoch on each rank, a patience of 3 epochs
    assert stops == {"Differs": (32, "plateau"), "OnRankZero": (40, "plateau"), "NanOnRankOne": (24, "non_finite")}
