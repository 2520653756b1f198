"""Outcomes of runs that were never made, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.outcome import Cell, Outcome
from benchmarks.scoring import Reference

BUDGET = 1000
GOOD, BAD = 0.95, 0.5
"""Scores above and below the margin."""
REFERENCES = {
    (task, optimizer): Reference(score=0.96, margin=0.02, loss=0.1, sample_budget=BUDGET, held_out=task == "kept")
    for task in ("wine", "text", "kept")
    for optimizer in ("adamw", "sgd")
}
OURS, SEEDS_BLOCK = "ours, defaults", "ours, seed's block"
STUDIES = {
    "clipping": ("plain", "ours, defaults: clipping alone", "rival"),
    "rate": ("plain", "ours, defaults: learning rate alone", "rival of rates"),
    "together": ("plain", OURS, SEEDS_BLOCK),
}


def outcome(
    method: str = "plain",
    *,
    task: str = "wine",
    optimizer: str = "adamw",
    scenario: str = "clean",
    seed: int = 0,
    score: float | None = GOOD,
    test_loss: float | None = 0.15,
    **fields: Any,
) -> Outcome:
    """One that succeeds unless it is told otherwise."""
    cell = Cell(task=task, optimizer=optimizer, scenario=scenario, method=method, seed=seed)
    fields = {"start_loss": 1.1, "steps": 10, "samples": BUDGET, "seconds": 1.0, **fields}
    return Outcome(cell=cell, score=score, test_loss=test_loss, **fields)


def series(method: str, successes: Iterable[bool], **cell: Any) -> list[Outcome]:
    """One outcome a seed, from seed 0 on."""
    return [
        outcome(method, seed=seed, score=GOOD if success else BAD, **cell) for seed, success in enumerate(successes)
    ]
