"""What clipping alone costs beside Lightning's own clipping at a constant, by the number of parameter tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule

from benchmarks.overhead.pairs import alternating_pairs
from benchmarks.overhead.workload import Network, Workload
from lightning_automations import AdaptiveGradientClipping

__all__ = ["VARIANTS", "clipping_alone", "clipping_table"]

SMALL_WIDTH, SMALL_BATCH = 8, 8
"""So small that a step is little besides its bookkeeping: clipping is as large a part of it as it can be."""
TENSORS_PER_LAYER = 2


class FusedNetwork(Network):
    """Its optimizer skips a step by itself where a flag on the device tells it to."""

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=True)


VARIANTS: Mapping[str, tuple[str, Callable[[Workload], LightningModule]]] = {
    "exact": ("exact", Network),
    "exact, fused optimizer": ("exact", FusedNetwork),
    "zero": ("zero", Network),
    "off": ("off", Network),
}
"""``skip_nonfinite`` and the network, by the name in the table."""


def clipping_alone(tensors: Iterable[int], *, pairs: int, seconds: float) -> list[dict[str, Any]]:
    """Alternating pairs for each number of tensors and each way to skip.

    Args:
        tensors: Numbers of parameter tensors, even.
        pairs: Of runs.
        seconds: About how long a run takes.
    """
    return [
        {"tensors": count, "variant": name, **_pairs(count, name, pairs=pairs, seconds=seconds)}
        for count in tensors
        for name in VARIANTS
    ]


def _pairs(tensors: int, variant: str, *, pairs: int, seconds: float) -> dict[str, Any]:
    skip, network = VARIANTS[variant]
    workload = Workload(layers=tensors // TENSORS_PER_LAYER, width=SMALL_WIDTH, samples=SMALL_BATCH)
    # About a millisecond, and 20 us more for each tensor.
    steps = max(20, round(seconds / (1e-3 + 2e-5 * tensors)))
    return alternating_pairs(workload, partial(_clipping, skip), pairs=pairs, steps=steps, network=network)


def _clipping(skip: str) -> Sequence[Callback]:
    return [AdaptiveGradientClipping(skip_nonfinite=skip, journal=False)]


def clipping_table(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Head and rows of the table."""
    head = ("parameter tensors", "skip_nonfinite", "step with Lightning's clipping", "ours: ratio (interval)")
    return [
        head,
        *(
            (
                str(row["tensors"]),
                row["variant"],
                f"{row['plain_us']:.0f} us",
                f"{row['median']:.3f} ({row['low']:.3f} to {row['high']:.3f})",
            )
            for row in rows
        ),
    ]
