"""All automations on two processes over gloo, started by Lightning and by torchrun."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.modes.ranks import SCRIPT, WAYS_TO_START_RANKS, environment
from tests.registry import EVERY_ROW


@pytest.mark.parametrize("way", WAYS_TO_START_RANKS)
def test_two_ranks_with_unequal_batches_decide_the_same(way: str, tmp_path: Path) -> None:
    """Every automation acts, no rank differs from the other, and a dry run changes nothing."""
    command = [*WAYS_TO_START_RANKS[way], str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1))
    assert one == other
    assert one["dry"] == one["dry gradnorm"] == one["plain"]
    assert one["acted by gradnorm"] > 0
    assert one["retired"] == []
    assert set(one["acted"]) == {str(row) for row in EVERY_ROW}
