"""The training that is measured: a network whose step takes as long as it should, under an ordinary Trainer."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_automations import build_callbacks

__all__ = [
    "AUTOMATIONS",
    "PLAIN_CLIP",
    "START_STEPS",
    "Network",
    "ValidatedNetwork",
    "Window",
    "Workload",
    "automations",
    "calibrated",
    "train",
]

AUTOMATIONS = (
    "intelligent_learning_rate_scheduler",
    "dynamic_batch_size_optimizer",
    "adaptive_gradient_clipping",
    "early_stopping",
)
PLAIN_CLIP = 1.0
"""Plain Lightning clips the norm at this constant, which is what adaptive clipping takes the place of."""
WARM_UP_STEPS = 120
"""At the start of a fit the learning-rate automation reads where the gradient points at every step, and for fifty steps
more after each change: that is over by then, and told by itself, see ``START_STEPS``."""
START_STEPS = 40
"""The first steps of a fit, whose cost is told apart from that of all the others."""
PLANNED_STEPS = 1_000_000
"""Every run is planned this long and ended by its window: defaults are shortened to fit a run that is planned short."""
BATCHES = 100
WIDTH_UNIT = 4
CALIBRATION_ROUNDS = 4


@dataclass(frozen=True)
class Workload:
    """A network and its batches.

    Args:
        layers: Linear layers, each with two parameter tensors.
        width: Inputs and outputs of each.
        samples: Of a batch.
        validation_interval: Steps between two validations; None: the run has none.
    """

    layers: int
    width: int
    samples: int
    validation_interval: int | None = None

    @property
    def parameter_tensors(self) -> int:
        """Tensors that the optimizer updates."""
        return 2 * self.layers


class Network(LightningModule):
    """Linear layers with a nonlinearity between them."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        torch.manual_seed(0)
        width = workload.width
        layers = [layer for _ in range(workload.layers) for layer in (nn.Linear(width, width), nn.Tanh())]
        self.layers = nn.Sequential(*layers)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.layers(batch), batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


class ValidatedNetwork(Network):
    """The same with a validation; Lightning warns of one that is never run."""

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", nn.functional.mse_loss(self.layers(batch), batch))


class Window(Callback):
    """The steps of a run that are looked at, those after a warm-up; the run ends with them. Stands last in the list.

    Args:
        steps: Steps inside the window, 1 or more.
        at_start: Called after the last step of the warm-up.
        at_end: Called after the last step of the window.
        each_step: Called after every step of the window, with its number in the window, from 1.
        warm_up: Steps before the window.
    """

    def __init__(
        self,
        steps: int,
        *,
        at_start: Callable[[], None] | None = None,
        at_end: Callable[[], None] | None = None,
        each_step: Callable[[int], None] | None = None,
        warm_up: int = WARM_UP_STEPS,
    ) -> None:
        self.steps = steps
        self.seconds = 0.0
        self._warm_up = warm_up
        self._at_start, self._at_end, self._each_step = at_start, at_end, each_step

    @property
    def last_step(self) -> int:
        """The step of the run with which the window ends."""
        return self._warm_up + self.steps

    @property
    def seconds_per_step(self) -> float:
        """The mean: what is done every so many steps counts with its share."""
        return self.seconds / self.steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._done = -self._warm_up
        if self._warm_up == 0:
            self._open()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._done += 1
        if self._done > 0 and self._each_step is not None:
            self._each_step(self._done)
        if self._done == 0:
            self._open()
        elif self._done == self.steps:
            self.seconds = time.perf_counter() - self._opened
            if self._at_end is not None:
                self._at_end()
            trainer.should_stop = True

    def _open(self) -> None:
        if self._at_start is not None:
            self._at_start()
        self._opened = time.perf_counter()


class _Noise(Dataset[Tensor]):
    """Batches are slices, so that fetching one takes no time to speak of."""

    def __init__(self, workload: Workload, *, batches: int) -> None:
        source = torch.Generator().manual_seed(0)
        self._samples = torch.randn(batches * workload.samples, workload.width, generator=source)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitems__(self, places: Sequence[int]) -> Tensor:
        return self._samples[places[0] : places[-1] + 1]


def _as_it_is(batch: Tensor) -> Tensor:
    return batch


def _loader(workload: Workload, *, batches: int) -> DataLoader[Tensor]:
    return DataLoader(_Noise(workload, batches=batches), batch_size=workload.samples, collate_fn=_as_it_is)


def train(
    workload: Workload,
    callbacks: Sequence[Callback],
    window: Window,
    *,
    clip: float | None = None,
    network: Callable[[Workload], LightningModule] | None = None,
) -> float:
    """Train until the window ends.

    Args:
        workload: Network and batches.
        callbacks: What the run is given beside the window.
        window: The steps that are looked at.
        clip: Lightning's own ``gradient_clip_val``.
        network: Makes the module; None: linear layers under AdamW.

    Returns:
        Mean seconds per step of the window.
    """
    interval = workload.validation_interval
    trainer = Trainer(
        max_steps=PLANNED_STEPS,
        # Nothing but the window ends the run: the early stopper, for one, must not.
        min_steps=window.last_step,
        min_epochs=0,
        max_epochs=-1,
        accelerator="cpu",
        devices=1,
        callbacks=[*callbacks, window],
        gradient_clip_val=clip,
        val_check_interval=interval,
        check_val_every_n_epoch=None if interval is not None else 1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=os.devnull,
    )
    validation = _loader(workload, batches=1) if interval is not None else None
    make = network or (Network if interval is None else ValidatedNetwork)
    trainer.fit(make(workload), _loader(workload, batches=BATCHES), validation)
    return window.seconds_per_step


def automations(*names: str, journal: str | bool = False) -> list[Callback]:
    """Automations with their defaults, all four where none is named.

    Args:
        names: Of ``AUTOMATIONS``.
        journal: Where the journal goes; False: nowhere.
    """
    section: dict[str, Any] = {"journal": journal, **{name: {} for name in names}}
    return build_callbacks({"training_automations": section})


def calibrated(workload: Workload, *, seconds: float, steps: int) -> Workload:
    """The workload with the width at which a plain step takes about so long on this machine.

    Args:
        workload: Gives layers and samples, and the width to begin with.
        seconds: How long a step should take.
        steps: Steps of each try.
    """
    tried: dict[int, float] = {}
    for _ in range(CALIBRATION_ROUNDS):
        if workload.width in tried:
            break
        tried[workload.width] = train(workload, [], Window(steps, warm_up=2), clip=PLAIN_CLIP)
        workload = replace(workload, width=_next_width(tried, seconds))
    width = min(tried, key=lambda width: abs(tried[width] / seconds - 1))
    return replace(workload, width=width)


def _next_width(tried: dict[int, float], seconds: float) -> int:
    """Where a step would take so long if its time were a constant and a multiple of the squared width."""
    latest, *before = reversed(tried)
    estimate = latest * math.sqrt(seconds / tried[latest])
    if before:
        slope = (tried[latest] - tried[before[0]]) / (latest**2 - before[0] ** 2)
        square = latest**2 + (seconds - tried[latest]) / slope if slope > 0 else 0.0
        estimate = math.sqrt(square) if square > 0 else estimate
    bounded = min(max(estimate, latest / 3), 3 * latest)
    return max(WIDTH_UNIT, WIDTH_UNIT * round(bounded / WIDTH_UNIT))
