"""Runs with and without something, in turn: identical code varies by several percent from run to run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from lightning.pytorch import Callback, LightningModule

from benchmarks.overhead.intervals import median_interval
from benchmarks.overhead.workload import PLAIN_CLIP, Window, Workload, train

__all__ = ["alternating_pairs"]


def alternating_pairs(
    workload: Workload,
    ours: Callable[[], Sequence[Callback]],
    *,
    pairs: int,
    steps: int,
    network: Callable[[Workload], LightningModule] | None = None,
) -> dict[str, Any]:
    """How many times as long a step takes with ours as with Lightning's own clipping; who comes first alternates.

    Args:
        workload: Network and batches.
        ours: Makes the callbacks of one run.
        pairs: Pairs of runs.
        steps: Of each run.
        network: Makes the module, as ``train`` has it.
    """
    plain, ratios = [], []
    for pair in range(pairs):
        taken = {}
        for with_ours in (False, True) if pair % 2 == 0 else (True, False):
            callbacks, clip = (ours(), None) if with_ours else ([], PLAIN_CLIP)
            taken[with_ours] = train(workload, callbacks, Window(steps), clip=clip, network=network)
        plain.append(taken[False])
        ratios.append(taken[True] / taken[False])
    return {**asdict(median_interval(ratios)), "plain_us": 1e6 * statistics.median(plain), "ratios": ratios}
