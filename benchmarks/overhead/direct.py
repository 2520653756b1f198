"""The direct figure: time inside our functions, what empty callbacks cost, and the clipping that ours replaces."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lightning.pytorch import Callback, LightningModule

from benchmarks.overhead.entry_points import Border, own_seconds
from benchmarks.overhead.parts import parts_counted
from benchmarks.overhead.stopwatch import Stopwatch
from benchmarks.overhead.workload import AUTOMATIONS, PLAIN_CLIP, START_STEPS, Window, Workload, automations, train

__all__ = ["SMALL", "direct", "empty_callback_seconds", "plain_run", "split"]

SMALL = Workload(layers=1, width=8, samples=4)
EMPTY_CALLBACKS = 100


def direct(
    workload: Workload, at: Border, *, empty: float, unclipped: float, rounds: int, steps: int
) -> dict[str, float]:
    """All automations together, in microseconds per step and percent of a plain one; each the median over rounds.

    A round is a run with ours and a plain one, one after the other, so that a machine that slows down slows both.

    Args:
        workload: Network and batches.
        at: The border of our code.
        empty: Seconds per step for as many callbacks that do nothing.
        unclipped: Seconds per step that Lightning's clipping takes where it clips nothing, as in a run with ours.
        rounds: 1 or more.
        steps: Of each run.
    """
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        watch = Stopwatch()
        inside = sum(own_seconds(automations(), workload, at, steps=steps, watch=watch).values())
        plain, clipping = plain_run(workload, clip=PLAIN_CLIP, steps=steps)
        clipping -= unclipped
        found.append(
            {
                "plain_us": 1e6 * plain,
                "inside_us": 1e6 * inside,
                "empty_us": 1e6 * empty,
                "clipping_us": 1e6 * clipping,
                "stopwatch_us": 1e6 * _seconds_of_one_call() * watch.calls.total() / steps,
                "percent": 100 * (inside + empty) / plain,
                "percent_less_clipping": 100 * (inside + empty - clipping) / plain,
            }
        )
    return _medians(found)


def split(workload: Workload, at: Border, *, rounds: int, steps: int) -> dict[str, Any]:
    """Each automation alone, by function, all together with a journal, and in the first steps; microseconds per step.

    Args:
        workload: Network and batches.
        at: The border of our code.
        rounds: 1 or more; each figure is the median over them.
        steps: Of each run.
    """
    alone = {}
    for name in AUTOMATIONS:
        found = []
        for _ in range(rounds):
            watch = Stopwatch()
            with parts_counted(watch):
                found.append(own_seconds(automations(name), workload, at, steps=steps, watch=watch))
        parts = {part: 1e6 * seconds for part, seconds in _medians(found).items()}
        alone[name] = dict(sorted(parts.items(), key=lambda item: -item[1]))
    journal = statistics.median(_with_journal(workload, at, steps=steps) for _ in range(rounds))
    start = statistics.median(_at_start(workload, at) for _ in range(rounds))
    return {
        "automations": alone,
        "with_journal_us": 1e6 * journal,
        "at_start_us": 1e6 * start,
        "counted_steps": rounds * steps,
    }


def _with_journal(workload: Workload, at: Border, *, steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        callbacks = automations(journal=str(Path(folder) / "automations.jsonl"))
        return sum(own_seconds(callbacks, workload, at, steps=steps, watch=Stopwatch()).values())


def _at_start(workload: Workload, at: Border) -> float:
    """All together in the first steps of a fit, which the other figures leave out."""
    watch = Stopwatch()
    return sum(own_seconds(automations(), workload, at, steps=START_STEPS, watch=watch, warm_up=1).values())


def empty_callback_seconds(*, steps: int, rounds: int = 5) -> float:
    """What Lightning needs per step to call one callback that does nothing, from a hundred of them.

    Args:
        steps: Of each run.
        rounds: With them and without them in turn; the median difference counts.
    """
    differences = []
    for _ in range(rounds):
        without = train(SMALL, [], Window(steps))
        many: list[Callback] = [Callback() for _ in range(EMPTY_CALLBACKS)]
        differences.append(train(SMALL, many, Window(steps)) - without)
    return max(0.0, statistics.median(differences)) / EMPTY_CALLBACKS


def plain_run(workload: Workload, *, clip: float | None, steps: int) -> tuple[float, float]:
    """Seconds of a plain step, and those of it that are spent in Lightning's own clipping.

    Args:
        workload: Network and batches.
        clip: The Trainer's ``gradient_clip_val``.
        steps: Of the window.
    """
    watch = Stopwatch()
    method = "configure_gradient_clipping"
    kept: list[float] = []
    with patch.object(LightningModule, method, watch.ours(getattr(LightningModule, method), method)):
        window = Window(steps, at_start=watch.reset, at_end=lambda: kept.append(watch.seconds[method]))
        plain = train(workload, [], window, clip=clip)
    return plain, kept[0] / steps


def _medians(found: list[dict[str, float]]) -> dict[str, float]:
    """A function that did not run in a round took no time there."""
    names = dict.fromkeys(name for figures in found for name in figures)
    return {name: statistics.median(figures.get(name, 0.0) for figures in found) for name in names}


def _seconds_of_one_call(calls: int = 5_000) -> float:
    """What the stopwatch counts for a function that does nothing."""
    watch = Stopwatch()
    empty = watch.ours(lambda: None, "empty")
    for _ in range(calls):
        empty()
    return watch.seconds["empty"] / calls
