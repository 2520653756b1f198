"""Measures what the automations cost, at several lengths of a step."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import Callback

from benchmarks.overhead.clipping import clipping_alone
from benchmarks.overhead.direct import SMALL, direct, empty_callback_seconds, plain_run, split
from benchmarks.overhead.entry_points import Border, border, uncounted
from benchmarks.overhead.memory import memory_after
from benchmarks.overhead.pairs import alternating_pairs
from benchmarks.overhead.reads import counted_reads
from benchmarks.overhead.workload import AUTOMATIONS, PLAIN_CLIP, Window, Workload, automations, calibrated, train

__all__ = ["BAR_STEP_MS", "Effort", "measure", "reads_per_step"]

BAR_STEP_MS = 20
"""The bar is set for a step of this length."""
SAMPLES = 256
FIRST_GUESSES = {2: Workload(5, 72, SAMPLES), 20: Workload(50, 96, SAMPLES), 100: Workload(50, 264, SAMPLES)}
"""By milliseconds: layers, and the width with which calibration begins."""
PERIOD_STEPS = 10
"""Most automations decide every so many steps: windows are multiples of it."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much time a measurement may take.

    Args:
        step_ms: Lengths of a step.
        pairs: Alternating pairs of runs.
        pair_seconds: Of each run of a pair.
        rounds: Runs over which the direct figure and its split are medians.
        direct_seconds: Of each run in which the time inside our functions is counted.
        split_seconds: The same, for each automation alone.
        small_steps: Steps of the runs of a small network, for which the length of a step does not matter.
        memory_after: Steps after which memory is measured.
        clipping_tensors: Numbers of parameter tensors for which clipping alone is measured.
        clipping_pairs: Alternating pairs of its runs.
        clipping_seconds: Of each of these runs.
    """

    step_ms: tuple[int, ...] = (2, 20, 100)
    pairs: int = 8
    pair_seconds: float = 2.0
    rounds: int = 3
    direct_seconds: float = 2.0
    split_seconds: float = 1.0
    small_steps: int = 200
    memory_after: tuple[int, ...] = (1_000, 10_000)
    clipping_tensors: tuple[int, ...] = (10, 100, 1_000)
    clipping_pairs: int = 6
    clipping_seconds: float = 0.5


QUICK = Effort(
    step_ms=(2, 20),
    pairs=3,
    pair_seconds=0.2,
    rounds=1,
    direct_seconds=0.4,
    split_seconds=0.2,
    small_steps=50,
    memory_after=(300, 1_000),
    clipping_tensors=(10,),
    clipping_pairs=2,
    clipping_seconds=0.1,
)
FULL = Effort(pairs=20, rounds=7, memory_after=(1_000, 10_000, 100_000), clipping_pairs=20)


def measure(*, quick: bool = False, full: bool = False) -> dict[str, Any]:
    """Measure on this machine, with one thread; nothing else should run meanwhile.

    Args:
        quick: Under 25 seconds, without steps of 100 ms: shows that everything works.
        full: About 20 minutes, memory after 100,000 steps included. Neither: memory after 10,000.

    Returns:
        JSON-able; ``section`` makes a report of it. Times in microseconds per training step.

    Raises:
        ValueError: If both are asked for.
    """
    if quick and full:
        raise ValueError("expected quick or full, got both")
    started = time.perf_counter()
    with _undisturbed():
        measured = _measured(QUICK if quick else FULL if full else Effort())
    return {**measured, "seconds": round(time.perf_counter() - started, 1)}


def _measured(effort: Effort) -> dict[str, Any]:
    at = border(automations)
    constants = {
        "empty": empty_callback_seconds(steps=effort.small_steps) * len(AUTOMATIONS),
        "unclipped": plain_run(SMALL, clip=None, steps=effort.small_steps)[1],
    }
    steps: list[dict[str, Any]] = []
    parts: dict[str, Any] = {}
    for step_ms in effort.step_ms:
        seconds = step_ms / 1e3
        workload = calibrated(FIRST_GUESSES[step_ms], seconds=seconds, steps=max(4, 100 // step_ms))
        steps.append({"step_ms": step_ms, **_of_one_length(workload, at, effort, seconds, constants)})
        if step_ms == BAR_STEP_MS:
            parts = split(workload, at, rounds=effort.rounds, steps=_window_steps(effort.split_seconds, seconds))
    return {
        "steps": steps,
        "split": {"step_ms": BAR_STEP_MS, **parts},
        "memory": memory_after(effort.memory_after),
        "clipping": clipping_alone(
            effort.clipping_tensors, pairs=effort.clipping_pairs, seconds=effort.clipping_seconds
        ),
        "border": {
            "entries": sorted(map(str, at.entries)),
            "left_out": sorted(map(str, at.left_out)),
            "uncounted": uncounted(automations(), at),
        },
    }


def _of_one_length(
    workload: Workload, at: Border, effort: Effort, seconds: float, constants: Mapping[str, float]
) -> dict[str, Any]:
    counted_steps = _window_steps(effort.direct_seconds, seconds)
    figures = direct(workload, at, **constants, rounds=effort.rounds, steps=counted_steps)
    return {
        "layers": workload.layers,
        "width": workload.width,
        "samples": workload.samples,
        "parameter_tensors": workload.parameter_tensors,
        **figures,
        "counted_steps": effort.rounds * counted_steps,
        "pairs": alternating_pairs(
            workload, automations, pairs=effort.pairs, steps=_window_steps(effort.pair_seconds, seconds)
        ),
        "reads": _reads(replace(workload, width=SMALL.width), steps=effort.small_steps),
    }


def reads_per_step(callbacks: Sequence[Callback], workload: Workload, *, steps: int) -> dict[str, float]:
    """Blocking reads per step by how they are made, Lightning's own and ours alike.

    Args:
        callbacks: Of the run; without any, Lightning clips.
        workload: Network and batches.
        steps: Of the window.
    """
    counts: dict[str, int] = {}
    with counted_reads() as counter:
        window = Window(steps, at_start=counter.reset, at_end=lambda: counts.update(counter.counts))
        train(workload, callbacks, window, clip=None if callbacks else PLAIN_CLIP)
    return {name: count / steps for name, count in counts.items()}


def _reads(workload: Workload, *, steps: int) -> dict[str, Any]:
    plain = reads_per_step([], workload, steps=steps)
    ours = reads_per_step(automations(), workload, steps=steps)
    above = {name: ours.get(name, 0.0) - plain.get(name, 0.0) for name in sorted({*plain, *ours})}
    return {
        "plain": sum(plain.values()),
        "above_plain": sum(above.values()),
        "by_method": {name: value for name, value in above.items() if value != 0.0},
    }


def _window_steps(seconds: float, step_seconds: float) -> int:
    return max(1, round(seconds / step_seconds / PERIOD_STEPS)) * PERIOD_STEPS


@contextmanager
def _undisturbed() -> Iterator[None]:
    threads, level = torch.get_num_threads(), logging.root.manager.disable
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        torch.set_num_threads(threads)
