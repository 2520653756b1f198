"""IntelligentLearningRateScheduler in real runs: what it does to the rate, what it tells, and what it leaves alone."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor

from lightning_automations.callbacks.learning_rate import IntelligentLearningRateScheduler
from lightning_automations.core.decision import Reason
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.helpers import Regression, SaveAt
from tests.callbacks.told import RATE, Told, done, fit, jump, scheduler

# What it does --------------------------------------------------------------------------------------------------------


def test_a_divergence_halves_the_rate_and_the_run_goes_on() -> None:
    """The cut comes 40 steps after the jump and holds from the next step on."""
    automation = scheduler()
    rates = fit(Told(jump), automation)
    assert done(automation) == [(140, Reason.DIVERGENCE, 0.5)]
    assert rates == [RATE] * 140 + [RATE / 2] * 160


def test_a_plateau_lowers_the_rate_step_by_step_to_its_bound_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """A flat loss halves the factor every patience; at the bound the user is told once what holds it back."""
    automation = scheduler(plateau_patience=50, min_lr_factor=0.3)
    with caplog.at_level("INFO", logger="lightning_automations"):
        rates = fit(Told(), automation)
    assert done(automation) == [(80, Reason.PLATEAU, 0.5), (130, Reason.PLATEAU, 0.3)]
    assert rates[-1] == pytest.approx(0.3 * RATE)
    notes = [message for message in caplog.messages if "min_lr_factor (0.3)" in message]
    assert len(notes) == 1


def test_a_patience_that_is_written_holds_through_the_run() -> None:
    """One that is not written would have grown to 40 steps at step 200."""
    automation = scheduler(plateau_patience=30, min_lr_factor=0.001)
    fit(Told(), automation)
    steps = [step for step, reason, _ in done(automation) if reason is Reason.PLATEAU]
    assert steps[-1] >= 240
    assert {later - step for step, later in pairwise(steps)} == {30}


def test_a_real_divergence_is_stopped() -> None:
    """A rate that doubles the error at every step is brought down until the error falls again."""

    class Quadratic(Regression):
        def __init__(self, rate: float) -> None:
            super().__init__(rate=rate)
            self.weight = torch.nn.Parameter(torch.ones(1))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.weight.square().sum() + 1e-6

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([self.weight], lr=self.rate)

    plain, steered = Quadratic(1.005), Quadratic(1.005)
    automation = scheduler()
    fit(plain)
    fit(steered, automation)
    assert plain.weight.abs().item() > 10
    assert Reason.DIVERGENCE in {item.reason for item in automation.adjustments}
    assert steered.weight.abs().item() < 1e-3


@pytest.mark.parametrize("first", [20, 23, 25, 26, 29])
def test_a_loss_that_stays_nan_cuts_the_rate_within_twenty_steps(first: int) -> None:
    """Half a window is enough."""
    automation = scheduler()
    fit(Told(lambda step: math.nan if step >= first else 1.0), automation, max_steps=60)
    ((step, reason, factor),) = done(automation)
    assert (reason, factor) == (Reason.NON_FINITE, 0.5)
    assert first < step <= first + 20


def test_isolated_losses_that_are_no_numbers_change_nothing() -> None:
    """One step in fifteen is no divergence, not even in a window that a change has cut short; the others are read."""

    class Interrupting(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step in (45, 135):
                automation.hear(trainer, Event(kind=EventKind.BATCH_CHANGED, step=trainer.global_step, ratio=2.0))

    automation = scheduler()
    rates = fit(Told(lambda step: 1.0 if step % 15 else math.nan), automation, Interrupting())
    assert done(automation) == []
    assert rates == [RATE] * 300
    assert automation.brain.smoothed_loss == pytest.approx(1.0)


def test_the_metric_keeps_the_rate_up_while_it_improves() -> None:
    """A flat training loss is no plateau while the metric gets better."""
    automation = scheduler(plateau_patience=50)
    fit(
        Told(metrics={"val/psnr": lambda step: float(min(step, 200))}),
        automation,
        EarlyStopping("val/psnr", mode="max", patience=100),
    )
    assert done(automation) == [(260, Reason.PLATEAU, 0.5)]


def test_the_loss_can_be_left_out() -> None:
    """With monitor_loss off a divergence of the loss is not seen, and validations decide alone."""
    automation = scheduler(monitor_loss=False, plateau_patience=60)
    fit(Told(jump, metrics={"val_loss": lambda step: 1.0}), automation, max_steps=100)
    assert done(automation) == [(80, Reason.PLATEAU, 0.5)]
    assert math.isnan(automation.brain.smoothed_loss)


def test_the_metric_can_be_left_out() -> None:
    """With monitor_validation off no metric is asked for, a named one that nobody logs included."""
    automation = scheduler(monitor_validation=False, monitor_metric="nowhere", plateau_patience=50)
    fit(Told(metrics={"val_loss": lambda step: -float(step)}), automation, max_steps=100)
    assert done(automation) == [(80, Reason.PLATEAU, 0.5)]


def test_accumulated_losses_are_multiplied_back() -> None:
    """The loss is judged as the training step returned it, and time counts in optimizer steps."""
    automation = scheduler()
    fit(Told(jump), automation, accumulate_grad_batches=2)
    assert done(automation) == [(140, Reason.DIVERGENCE, 0.5)]
    assert automation.brain.smoothed_loss == pytest.approx(1.4)


@pytest.mark.parametrize("answer", [None, {"other": 1.0}, {"loss": torch.ones(3)}])
def test_a_training_step_without_a_loss_is_taken_as_it_is(answer: Any) -> None:
    """Manual optimization may return anything: without a loss only the metric speaks."""

    class Silent(Told):
        def __init__(self) -> None:
            super().__init__(metrics={"val_loss": lambda step: 1.0})
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()
            return answer

    automation = scheduler(plateau_patience=60)
    fit(Silent(), automation, max_steps=100)
    assert done(automation) == [(80, Reason.PLATEAU, 0.5)]


def test_manual_optimization_with_a_loss_is_judged() -> None:
    """A loss that a manual training step returns is read as it is."""

    class Manual(Told):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            step = self.global_step
            optimizer.step()
            return torch.tensor(jump(step))

    automation = scheduler()
    fit(Manual(), automation)
    assert done(automation) == [(140, Reason.DIVERGENCE, 0.5)]


def test_a_warm_up_is_not_judged() -> None:
    """While the user's schedule rises, a flat loss is no plateau; the patience begins where it ends."""

    class Warming(Told):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=RATE)
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=150)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    automation = scheduler(plateau_patience=50)
    fit(Warming(), automation, max_steps=240)
    assert done(automation) == [(230, Reason.PLATEAU, 0.5)]


def test_others_hear_of_the_change_and_it_hears_of_theirs() -> None:
    """A change of the batch is no divergence; a change of the rate is announced with its ratio."""
    heard: list[Event] = []

    class Hearing(IntelligentLearningRateScheduler):
        @property
        def state_key(self) -> str:
            return "Hearing"

        def hear(self, trainer: pl.Trainer, event: Event) -> None:
            heard.append(event)

        def decide(self, *_: Any) -> None:
            """Only listens."""

    class Telling(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 100:
                event = Event(kind=EventKind.BATCH_CHANGED, step=100, ratio=2.0)
                automation.session.announce(trainer, event, source=listener)

    automation, listener = scheduler(), Hearing()
    fit(Told(lambda step: 1.0 if step < 99 else 3.0 if step < 200 else 4.0), Telling(), automation, listener)
    assert done(automation) == [(240, Reason.DIVERGENCE, 0.5)]
    assert heard == [Event(kind=EventKind.RATE_CHANGED, step=240, ratio=0.5)]


# What it reads -------------------------------------------------------------------------------------------------------


def test_a_named_metric_that_nobody_logs_is_an_error_after_the_first_validation() -> None:
    """The error lists what was logged."""
    automation = scheduler(monitor_metric="val/pnsr")
    with pytest.raises(ConfigError) as caught:
        fit(Told(metrics={"val/psnr": float}), automation)
    assert str(caught.value) == (
        "IntelligentLearningRateScheduler.monitor_metric: expected a logged metric (val/psnr), got 'val/pnsr'. "
        "Did you mean 'val/psnr'?"
    )


def test_a_named_metric_whose_direction_nobody_knows_is_an_error() -> None:
    """The error says what to set; with mode set there is none."""
    with pytest.raises(ConfigError, match=r"IntelligentLearningRateScheduler\.mode: expected min or max"):
        fit(Told(metrics={"val/thing": float}), scheduler(monitor_metric="val/thing"))
    fit(Told(metrics={"val/thing": float}), scheduler(monitor_metric="val/thing", mode="max"), max_steps=20)


@pytest.mark.parametrize(
    ("metrics", "stopper", "found"),
    [
        (("val/thing", "val/loss"), EarlyStopping("val/thing", mode="max", patience=100), ("val/thing", "max")),
        (("val/psnr", "val/loss"), None, ("val/loss", "min")),
        (("val/psnr", "val/loss"), EarlyStopping("nothing", strict=False, patience=100), ("val/loss", "min")),
        (("val/psnr",), None, (None, None)),
    ],
)
@pytest.mark.filterwarnings("ignore:Early stopping conditioned on metric")
def test_the_metric_is_that_of_the_stopper_or_the_first_validation_loss(
    metrics: tuple[str, ...], stopper: Any, found: tuple[str | None, str | None]
) -> None:
    """Not named, the metric is found; where there is none, the loss alone decides."""
    automation = scheduler()
    callbacks = [automation] if stopper is None else [stopper, automation]
    fit(Told(metrics=dict.fromkeys(metrics, float)), *callbacks, max_steps=40)
    extra = automation.extra_state()
    assert (extra["metric"], extra["direction"]) == found


def test_a_metric_named_in_a_resumed_run_wins_over_the_saved_one(tmp_path: Path) -> None:
    """The settings given now count, and baselines start anew."""
    metrics: dict[str, Any] = {"val/loss": lambda step: 1.0, "val/psnr": float}
    save = SaveAt(40, tmp_path)
    fit(Told(metrics=metrics), scheduler(), save, max_steps=50)
    automation = scheduler(monitor_metric="val/psnr")
    fit(Told(metrics=metrics), automation, save, max_steps=70, checkpoint=save.path)
    assert automation.extra_state()["metric"] == "val/psnr"
    assert automation.brain.progress.state.best_metric == -64.0
