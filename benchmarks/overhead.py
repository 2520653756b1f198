"""What all automations together cost in a training step of 20 ms, against a bar of 1 %.

Wall-clock time of identical code varies by several percent from run to run on a shared machine, so it cannot show 1 %.
The figure that counts is therefore measured directly: the time inside the automations' own entry points, plus what
Lightning needs to call that many callbacks that do nothing. Alternating runs with and without the automations are shown
beside it. Blocking reads are counted by patching every method of a tensor that hands out a number.

    python -m benchmarks.overhead [--steps N] [--pairs N]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import lightning.pytorch as pl
import torch
from lightning.pytorch.loops.optimization.automatic import Closure
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_automations import build_callbacks
from lightning_automations.callbacks.splitting_closure import SplittingClosure

STEP_SECONDS = 0.020
BAR_PERCENT = 1.0
LAYERS = 50
WIDTH, SAMPLES = 96, 256  # about 20 ms a step on one core
WARM_UP_STEPS = 20
HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_optimizer_step")
READS = ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy", "__array__")


class Perceptron(pl.LightningModule):
    """100 parameter tensors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [layer for _ in range(LAYERS) for layer in (nn.Linear(width, width), nn.Tanh())]
        self.layers = nn.Sequential(*layers)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        (inputs,) = batch
        return nn.functional.mse_loss(self.layers(inputs), inputs)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


class Clock(pl.Callback):
    """Seconds from the end of one batch to the end of the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def seconds_per_step(callbacks: Sequence[pl.Callback], *, steps: int, clip: float | None = None) -> float:
    """Train for some steps and return the median time of one, the first steps left out."""
    clock = Clock()
    trainer = pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        callbacks=[*callbacks, clock],
        gradient_clip_val=clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = TensorDataset(torch.randn(100 * SAMPLES, WIDTH))
    trainer.fit(Perceptron(WIDTH), DataLoader(data, batch_size=SAMPLES))
    return statistics.median(clock.seconds[WARM_UP_STEPS:])


class Stopwatch:
    """Adds up the time inside our functions, without the time that they spend inside Lightning's."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started: float | None = None

    def ours(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted."""
        return self._switching(function, runs=True)

    def lightnings(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time left out."""
        return self._switching(function, runs=False)

    def _switching(self, function: Callable[..., Any], *, runs: bool) -> Callable[..., Any]:
        def measured(*args: Any, **kwargs: Any) -> Any:
            before = self._switch(runs)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch(before)

        return measured

    def _switch(self, runs: bool) -> bool:
        now = time.perf_counter()
        ran = self._started is not None
        if self._started is not None:
            self.seconds += now - self._started
        self._started = now if runs else None
        return ran


@contextmanager
def counted_reads() -> Iterator[Counter[str]]:
    """How often each reading method of a tensor is called."""
    counts: Counter[str] = Counter()

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return original(tensor, *args, **kwargs)

        return read

    with ExitStack() as patches:
        for name in READS:
            patches.enter_context(patch.object(Tensor, name, counting(name, getattr(Tensor, name))))
        yield counts


def own_seconds_per_step(*, steps: int) -> float:
    """Time inside our entry points: the hooks, and what surrounds Lightning's closure so that it can be run again."""
    watch = Stopwatch()
    callbacks = automations()
    with ExitStack() as patches:
        for callback in callbacks:
            for hook in HOOKS:
                patches.enter_context(patch.object(callback, hook, watch.ours(getattr(callback, hook))))
        for name in ("__init__", "__call__"):
            patches.enter_context(patch.object(SplittingClosure, name, watch.ours(getattr(SplittingClosure, name))))
        patches.enter_context(patch.object(Closure, "closure", watch.lightnings(Closure.closure)))
        seconds_per_step(callbacks, steps=steps)
    return watch.seconds / steps


def empty_call_seconds(count: int, *, steps: int) -> float:
    """What Lightning needs per step to call so many callbacks that do nothing, from a hundred of them."""
    many = 100
    with_many = seconds_per_step([pl.Callback() for _ in range(many)], steps=steps)
    return max(0.0, with_many - seconds_per_step([], steps=steps)) * count / many


def reads_per_step(callbacks: Sequence[pl.Callback], *, steps: int) -> float:
    """Blocking reads per step."""
    with counted_reads() as counts:
        seconds_per_step(callbacks, steps=steps)
    return counts.total() / steps


def automations() -> list[Any]:
    """All automations with their defaults, for a run without validation."""
    return list(build_callbacks({"training_automations": {"enabled": True, "journal": False}}))


def clipping_seconds(*, steps: int) -> float:
    """What Lightning's own clipping at a constant takes, which ours replaces."""
    watch = Stopwatch()
    method = "configure_gradient_clipping"
    with patch.object(Perceptron, method, watch.ours(getattr(Perceptron, method))):
        seconds_per_step([], steps=steps, clip=1.0)
    return watch.seconds / steps


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status says whether the bar is held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=400, help="steps of each run (default 400)")
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs of runs (default 5)")
    options = parser.parse_args(arguments)
    steps, pairs = options.steps, options.pairs
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)

    own, clipping = own_seconds_per_step(steps=steps), clipping_seconds(steps=steps)
    empty = empty_call_seconds(len(automations()), steps=steps)
    percent = 100 * (own + empty - clipping) / STEP_SECONDS
    reads = reads_per_step(automations(), steps=200) - reads_per_step([], steps=200)
    plain, ratios = [], []
    for _ in range(pairs):
        plain.append(seconds_per_step([], steps=steps, clip=1.0))
        ratios.append(seconds_per_step(automations(), steps=steps) / plain[-1])

    for line in (
        f"inside our entry points        {1e6 * own:7.1f} us per step",
        f"Lightning calling callbacks    {1e6 * empty:7.1f} us per step",
        f"Lightning's clipping, replaced {1e6 * clipping:7.1f} us per step",
        f"overhead                       {percent:7.2f} % of a step of 20 ms (bar: {BAR_PERCENT} %)",
        f"blocking reads above plain     {reads:7.2f} per step (the skip flag is 1)",
        f"{pairs} alternating pairs            {statistics.median(ratios):7.3f} x plain steps of "
        f"{1e3 * statistics.median(plain):.1f} ms, from {min(ratios):.3f} to {max(ratios):.3f}",
    ):
        sys.stdout.write(line + "\n")
    return 0 if percent < BAR_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
