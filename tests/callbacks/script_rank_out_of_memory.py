"""Run by test_batch_size_ranks in two processes: memory runs out on rank 1 alone.

Without a second argument all cases that are survived, each beside the same run undisturbed; else the one that is not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.callbacks.ranks_out_of_memory import MANY_BUCKETS, ONE_BUCKET, OnOneRank, automation, fit, outcome

LAST = 3
"""The place after the last layer: its backward pass comes before any gradient is there."""

SURVIVED: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "forward": ({"place": "forward"}, {}),
    "forward, a bucket for each layer": ({"place": "forward", "steps": (1, 3)}, {"bucket": MANY_BUCKETS}),
    "forward of a piece": ({"place": "forward", "calls": (2, 3, 9)}, {"bucket": MANY_BUCKETS}),
    "forward of the last piece": ({"place": "forward", "calls": (2, 4)}, {"bucket": MANY_BUCKETS}),
    "forward, accumulation": ({"place": "forward", "steps": (0, 3)}, {"accumulate_grad_batches": 2}),
    "forward, unused parameters": ({"place": "forward", "unused": True}, {}),
    "backward, before any gradient": ({"place": LAST}, {"bucket": MANY_BUCKETS}),
    "backward, after some gradients": ({"place": 1}, {"bucket": ONE_BUCKET}),
    "backward, not in the first steps": ({"place": 1, "calls": (2,)}, {"bucket": ONE_BUCKET}),
    "backward of a piece": ({"place": 1, "calls": (2, 3)}, {"bucket": ONE_BUCKET}),
    "backward of the last piece": ({"place": 1, "calls": (2, 4, 9)}, {"bucket": ONE_BUCKET}),
    "backward, accumulation": ({"place": 1, "calls": (0, 3, 5)}, {"accumulate_grad_batches": 2}),
    "backward, gradients as views": ({"place": 1, "calls": (0, 4)}, {"gradient_as_bucket_view": True}),
    "backward, views and accumulation": (
        {"place": 1, "calls": (1, 4)},
        {"gradient_as_bucket_view": True, "accumulate_grad_batches": 2},
    ),
    "backward, unused parameters": ({"place": 1, "calls": (0, 4), "unused": True}, {}),
    "own collective, memory suffices": ({"steps": (), "together": True}, {}),
}
FATAL: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "backward, after the first bucket": ({"place": 0, "calls": (2,)}, {"bucket": MANY_BUCKETS}),
    "own collective, memory does not suffice for the first batch": ({"place": "forward", "together": True}, {}),
}


def main(folder: Path, fatal: str | None) -> None:
    """Train on two ranks and write down what each run came to."""
    if fatal is not None:
        of_module, options = FATAL[fatal]
        fit(OnOneRank(**of_module), automation(), **options)
        return
    fit(OnOneRank(steps=()))  # the processes meet
    result = {}
    for name, (of_module, options) in SURVIVED.items():
        one = automation()
        result[name] = {
            "plain": outcome(OnOneRank(**{**of_module, "steps": (), "calls": None}), **options),
            "ours": outcome(OnOneRank(**of_module), one, **options),
            "adjustments": [(item.old, item.new) for item in one.adjustments],
        }
    (folder / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
