"""Where somebody else sets the rate of a retired run: the fallback's schedule gives way to them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, StochasticWeightAveraging

from lightning_automations.callbacks.learning_rate import IntelligentLearningRateScheduler
from lightning_automations.callbacks.rate import RateWriter
from lightning_automations.callbacks.rate_fallback import LEFT_TO_OTHERS
from tests.callbacks.helpers import SaveAt
from tests.callbacks.told import RATE, Told, fit, scheduler


class SetRate(Callback):
    """Sets the rate of the last group at one step."""

    def __init__(self, rate: float = 0.001, *, step: int = 40) -> None:
        self.rate = rate
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.optimizers[0].param_groups[-1]["lr"] = self.rate


def on_fallback() -> IntelligentLearningRateScheduler:
    """An automation whose fallback holds from the start."""
    return scheduler(max_adjustments=0, fallback={"scheduler_type": "cosine"})


def test_a_rate_that_a_callback_sets_is_kept_and_the_user_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The fallback holds until then, and has no effect afterwards."""
    with caplog.at_level("INFO", logger="lightning_automations"):
        rates = fit(Told(), on_fallback(), SetRate(), max_steps=60)
    assert rates[:40] == fit(Told(), on_fallback(), max_steps=60)[:40]
    assert rates[39] < RATE / 2
    assert rates[40:] == [0.001] * 20
    assert sum(LEFT_TO_OTHERS in message for message in caplog.messages) == 1


def test_stochastic_weight_averaging_reaches_its_rate() -> None:
    """Its scheduler is put in at an epoch of its own; the fallback would go on to nearly 0."""

    def averaging() -> StochasticWeightAveraging:
        return StochasticWeightAveraging(0.02, swa_epoch_start=0.5, annealing_epochs=2)

    options = {"max_epochs": 8, "max_steps": -1}
    rates = fit(Told(), on_fallback(), averaging(), **options)
    assert rates[-16:] == pytest.approx([0.02] * 16)
    # It begins in the fourth epoch of 16 steps, and steps at the end of epochs.
    assert rates[:49] == fit(Told(), on_fallback(), **options)[:49]
    assert rates[49:64] == pytest.approx([rates[48]] * 15)
    # No jump where the averaging begins: it anneals from the rate that it finds.
    assert max(abs(after - before) for before, after in pairwise(rates)) < 0.008


@pytest.mark.parametrize("stop", [30, 40, 41, 55])
def test_a_resumed_run_leaves_the_rate_to_them_too(stop: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stopped before, at and after the change, the rates are those of the whole run; what was said is not repeated."""
    save = SaveAt(stop, tmp_path)
    whole = fit(Told(), on_fallback(), SetRate(), save, max_steps=80)
    caplog.clear()
    with caplog.at_level("INFO", logger="lightning_automations"):
        rest = fit(Told(), on_fallback(), SetRate(), save, max_steps=80, checkpoint=save.path)
    assert rest == whole[stop:]
    assert whole[-1] == 0.001
    assert sum(LEFT_TO_OTHERS in message for message in caplog.messages) == (1 if stop <= 40 else 0)


class Replaced(Callback):
    """Replaces the schedule at the first step, and again at every one that follows."""

    def __init__(self, *groups: float) -> None:
        self.groups = list(groups)
        self.seen: list[list[float]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.writer = RateWriter(trainer)
        self.writer.replace_schedule([self.groups])

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append(self.writer.effective[0])
        self.groups = [rate / 2 for rate in self.groups]
        self.writer.replace_schedule([self.groups])


class TwoGroups(Told):
    """Weight and bias apart, with a schedule that falls far below the rates that replace it."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD([{"params": [self.layer.weight]}, {"params": [self.layer.bias]}], lr=RATE)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=100)]


def test_a_group_that_they_did_not_touch_keeps_its_rate() -> None:
    """The optimizer as a whole is left to them; no rate jumps back to the schedule that was replaced."""
    replaced = Replaced(0.8, 0.4)
    fit(TwoGroups(), SetRate(0.3, step=2), replaced, max_steps=5)
    assert replaced.seen == [[0.8, 0.4], [0.4, 0.2], [0.2, 0.3], [0.2, 0.3], [0.2, 0.3]]
    assert replaced.writer.released == (0,)


def test_a_group_that_is_added_releases_nothing() -> None:
    """Its rate was never replaced: who unfreezes a group may set its rate, the others follow the fallback."""

    class Adding(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 1:
                trainer.optimizers[0].add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.7})

    replaced = Replaced(0.8)
    fit(Told(), Adding(), SetRate(0.9, step=2), replaced, max_steps=4)
    assert replaced.seen == [[0.8], [0.4, 0.7], [0.2, 0.9], [0.1, 0.9]]
    assert replaced.writer.released == ()
