"""Until when a schedule keeps the rate up: rehearsed, against the rates of a real run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedulers

from lightning_automations.callbacks.planned_drop import PlannedDrop
from lightning_automations.callbacks.session import run_length
from tests.callbacks.helpers import Regression, SaveAt, make_trainer, train_loader, val_loader

STEPS_PER_EPOCH = 16


def _warm_flat_decay(optimizer: Optimizer) -> Any:
    parts = [
        schedulers.LinearLR(optimizer, start_factor=0.1, total_iters=2),
        schedulers.ConstantLR(optimizer, factor=1.0, total_iters=1),
        schedulers.CosineAnnealingLR(optimizer, T_max=5),
    ]
    return schedulers.SequentialLR(optimizer, parts, milestones=[2, 6])


class Watch(pl.Callback):
    """Notes the rate of every step, and whether a drop was said to be ahead when it was taken."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.ahead: list[bool] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rate = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self.planned = PlannedDrop(trainer, run_length(trainer), self.rate)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(float(trainer.optimizers[0].param_groups[0]["lr"]))
        self.ahead.append(self.planned.is_ahead(trainer))


class Scheduled(Regression):
    """Has the scheduler that a function makes."""

    def __init__(self, make: Callable[[Optimizer], Any], **config: Any) -> None:
        super().__init__()
        self.make, self.config = make, config

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.make(optimizer), **self.config}}

    def kept_up(self, count: int) -> float:
        """A method as the function of a schedule: the module is not copied for it."""
        return 1.0 if count < 5 else 0.1

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("the module was copied")


def _fit(
    module: pl.LightningModule,
    *callbacks: pl.Callback,
    checkpoint: str | None = None,
    max_epochs: int = -1,
    **options: Any,
) -> None:
    trainer = make_trainer(callbacks, max_epochs=max_epochs, **options)
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint)


STEPPED = {
    "MultiStepLR": (lambda o: schedulers.MultiStepLR(o, [3, 7]), 7),
    "StepLR": (lambda o: schedulers.StepLR(o, 4, gamma=0.5), 8),
    "LambdaLR": (lambda o: schedulers.LambdaLR(o, lambda count: 1.0 if count < 5 else 0.1), 5),
    "MultiplicativeLR": (lambda o: schedulers.MultiplicativeLR(o, lambda count: 0.1 if count == 6 else 1.0), 6),
    "ChainedScheduler": (lambda o: schedulers.ChainedScheduler([schedulers.MultiStepLR(o, [6])], optimizer=o), 6),
    "warm-up, flat, decay": (_warm_flat_decay, 7),
}
ALWAYS_FALLING = {
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, T_max=10),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, gamma=0.8),
    "StepLR, each time": lambda o: schedulers.StepLR(o, 1, gamma=0.5),
    "LinearLR": lambda o: schedulers.LinearLR(o, start_factor=0.1, total_iters=6),
    "small drops": lambda o: schedulers.MultiStepLR(o, [3], gamma=0.95),
    "after the end": lambda o: schedulers.MultiStepLR(o, [10]),
    "follows a metric": lambda o: schedulers.ReduceLROnPlateau(o),
}


# torch before 2.7 says so of its own SequentialLR
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", STEPPED)
def test_a_drop_is_ahead_until_it_has_come(name: str, interval: str) -> None:
    """In steps and in epochs, the last drop of the run of ten."""
    make, drop = STEPPED[name]
    watch, unit = Watch(), STEPS_PER_EPOCH if interval == "epoch" else 1
    _fit(Scheduled(make, interval=interval), watch, **{f"max_{interval}s": 10})
    assert watch.ahead == [step < drop * unit for step in range(10 * unit)]
    falls = [index for index, (before, after) in enumerate(pairwise(watch.rates), start=1) if after < before]
    assert drop * unit in falls


@pytest.mark.parametrize("name", ALWAYS_FALLING)
def test_a_rate_that_falls_all_the_time_has_no_drop(name: str) -> None:
    """Nothing is waited for."""
    watch = Watch()
    config = {"interval": "epoch", "monitor": "train/loss"}
    _fit(Scheduled(ALWAYS_FALLING[name], **config), watch, max_epochs=10)
    assert watch.planned.last is None


def test_nothing_is_copied_or_changed_but_the_scheduler() -> None:
    """A method of the module as the function of a schedule, which counts every second step."""
    watch = Watch()
    module = Scheduled(lambda o: schedulers.LambdaLR(o, module.kept_up), interval="step", frequency=2)
    _fit(module, watch, max_steps=20)
    assert watch.ahead == [step < 10 for step in range(20)]
    assert watch.rates == [0.05] * 10 + [pytest.approx(0.005)] * 10


def test_a_schedule_that_cannot_be_rehearsed_plans_what_was_seen_of_it() -> None:
    """The user's function fails beyond the eighth step: that run would have failed there itself."""

    def fails(count: int) -> float:
        if count > 8:
            raise IndexError("no rate for this step")
        return 1.0 if count < 5 else 0.1

    watch = Watch()
    with pytest.raises(IndexError):
        _fit(Scheduled(lambda o: schedulers.LambdaLR(o, fails), interval="step"), watch, max_steps=20)
    assert watch.planned.last == 5


def test_saved_just_before_a_drop_the_resumed_run_still_waits_for_it(tmp_path: Path) -> None:
    """One step before, nothing is flat any more: what the interrupted run knew holds, until the drop has come."""

    class Resumed(Watch):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            super().on_train_start(trainer, pl_module)
            assert self.planned.last is None
            self.planned = PlannedDrop(trainer, run_length(trainer), self.rate, known=7)

    module = Scheduled(STEPPED["MultiStepLR"][0], interval="step")
    for at, ahead in ((6, [True, False, False, False]), (8, [False, False])):
        save, watch = SaveAt(at, tmp_path), Resumed()
        _fit(module, save, max_steps=10)
        _fit(module, watch, max_steps=10, checkpoint=save.path)
        assert watch.ahead == ahead


def test_nothing_is_known_where_the_module_steps_its_scheduler() -> None:
    """Under manual optimization no one else can say when it does."""

    class ByHand(Scheduled):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer: Any = self.optimizers()
            optimizer.step()

    watch = Watch()
    _fit(ByHand(STEPPED["MultiStepLR"][0], interval="step"), watch, max_steps=10)
    assert watch.planned.last is None


def test_nothing_is_known_of_a_run_without_an_end() -> None:
    """No last drop where there is no last step; training until it is stopped."""

    class Endless(Watch):
        def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
            super().on_train_batch_start(trainer, *arguments)
            trainer.should_stop = True

    watch = Endless()
    _fit(Scheduled(STEPPED["MultiStepLR"][0], interval="epoch"), watch, max_epochs=-1)
    assert watch.planned.last is None
