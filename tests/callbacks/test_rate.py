"""The learning-rate writer: every scheduler of torch, both intervals, against a plain run."""

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR

from lightning_automations.callbacks.rate import RateWriter
from tests.callbacks.helpers import make_trainer, train_loader

Make = Callable[[Optimizer], Any]
METRICS = (1.0, 0.5, 0.6, 0.7, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def _sequential(optimizer: Optimizer) -> Any:
    first = schedulers.LinearLR(optimizer, start_factor=0.1, total_iters=3)
    second = schedulers.ExponentialLR(optimizer, gamma=0.8)
    return schedulers.SequentialLR(optimizer, [first, second], milestones=[3])


def _chained(optimizer: Optimizer) -> Any:
    first = schedulers.ConstantLR(optimizer, factor=0.1, total_iters=4)
    return schedulers.ChainedScheduler([first, schedulers.ExponentialLR(optimizer, gamma=0.9)], optimizer=optimizer)


SCHEDULERS: dict[str, Make] = {
    "StepLR": lambda o: schedulers.StepLR(o, step_size=3, gamma=0.5),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, milestones=[2, 5], gamma=0.5),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, gamma=0.9),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, T_max=7, eta_min=1e-3),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2),
    "LinearLR": lambda o: schedulers.LinearLR(o, start_factor=0.1, total_iters=6),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, factor=0.3, total_iters=4),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, total_iters=30, power=2.0),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, max_lr=0.5, total_steps=40),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, base_lr=0.01, max_lr=0.1, step_size_up=3),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda count: 1 / (1 + count)),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda count: 0.95),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=1, factor=0.5),
    "SequentialLR": _sequential,
    "ChainedScheduler": _chained,
    "SWALR": lambda o: SWALR(o, swa_lr=0.01, anneal_epochs=5),
    "none": lambda o: None,
}


class Scheduled(LightningModule):
    """One weight, a gradient that nobody looks at, and a metric that does not depend on the rate."""

    def __init__(self, make: Make, *, interval: str = "step", groups: int = 1, frequency: int = 1) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(torch.nn.Parameter(torch.ones(1)) for _ in range(groups))
        self.make = make
        self.interval = interval
        self.frequency = frequency

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("metric", METRICS[(self.global_step // 2) % len(METRICS)])
        return sum((weight * batch[0].mean()).sum() for weight in self.weights)

    def make_optimizer(self) -> Optimizer:
        groups = [{"params": [weight], "lr": 0.1 / (index + 1)} for index, weight in enumerate(self.weights)]
        return SGD(groups, momentum=0.9)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        scheduler = self.make(optimizer)
        if scheduler is None:
            return optimizer
        config = {"scheduler": scheduler, "interval": self.interval, "frequency": self.frequency, "monitor": "metric"}
        return {"optimizer": optimizer, "lr_scheduler": config}


class Factors(Callback):
    """Sets factors at given steps, as an automation does; keeps the writer for the test."""

    def __init__(self, factors: dict[int, float] | None, *, attach: bool = True) -> None:
        self.factors = factors
        self.attach = attach
        self.saved: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.writer = RateWriter(trainer)
        self.writer.load_state_dict(self.saved)
        if self.attach:
            self.writer.attach()
        self._set(trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.writer.refresh()
        self._set(trainer.global_step)

    def _set(self, step: int) -> None:
        known = [key for key in self.factors or {} if key <= step]
        if known and self.factors:
            self.writer.set_factor("test", self.factors[max(known)])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.writer.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"rate": self.writer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.saved = state_dict["rate"]


class Rates(Callback):
    """The rates of all groups that each optimizer step uses."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.rates.append([float(group["lr"]) for group in optimizer.param_groups])


def _run(module: LightningModule, *callbacks: Callback, epochs: int = 6, **options: Any) -> list[list[float]]:
    rates = Rates()
    trainer = make_trainer([rates, *callbacks], max_epochs=epochs, **options)
    with warnings.catch_warnings():
        # torch's own remark on the closed form of a chained schedule.
        warnings.filterwarnings("ignore", message=".*epoch parameter in `scheduler.step.*")
        trainer.fit(module, train_loader(batch_size=4, samples=16))
    return rates.rates


FACTORS = {0: 0.5, 3: 2.0, 4: 0.25, 9: 1.0, 11: 0.7}


def _factor(step: int) -> float:
    return FACTORS[max(key for key in FACTORS if key <= step)]


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*OneCycleLR.*")
def test_the_effective_rate_is_scheduled_times_factor(name: str, interval: str) -> None:
    """At every step of every scheduler the optimizer uses the plain run's rate times the factor."""
    plain = _run(Scheduled(SCHEDULERS[name], interval=interval, groups=2))
    factors = Factors(FACTORS)
    ours = _run(Scheduled(SCHEDULERS[name], interval=interval, groups=2), factors)
    assert len(plain) == len(ours) == 24
    for step, (expected, got) in enumerate(zip(plain, ours, strict=True)):
        assert got == pytest.approx([rate * _factor(step) for rate in expected], rel=1e-6)


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:.*OneCycleLR.*")
def test_factor_one_is_bit_identical_to_no_writer(name: str, interval: str) -> None:
    """With the writer in place and factor 1, every rate and every weight is exactly that of a plain run."""
    plain, ours = (Scheduled(SCHEDULERS[name], interval=interval) for _ in range(2))
    assert _run(plain) == _run(ours, Factors({0: 1.0}))
    assert torch.equal(plain.weights[0], ours.weights[0])


@pytest.mark.parametrize("monitor_first", [True, False])
@pytest.mark.parametrize("name", ["ExponentialLR", "ReduceLROnPlateau", "none"])
def test_the_monitor_shows_the_effective_rate(name: str, monitor_first: bool) -> None:
    """LearningRateMonitor logs what the optimizer uses, before or behind us in the list."""
    monitor, factors = LearningRateMonitor("step"), Factors(FACTORS)
    order = [monitor, factors] if monitor_first else [factors, monitor]
    options = {"logger": CSVLogger("."), "log_every_n_steps": 1}
    used = _run(Scheduled(SCHEDULERS[name]), *order, **options)
    (shown,) = monitor.lrs.values()
    assert [[rate] for rate in shown] == used


def test_the_frequency_of_a_scheduler_is_kept() -> None:
    """A scheduler that steps every third batch still does."""
    plain = _run(Scheduled(SCHEDULERS["ExponentialLR"], frequency=3))
    ours = _run(Scheduled(SCHEDULERS["ExponentialLR"], frequency=3), Factors({0: 0.5}))
    assert [rate for (rate,) in ours] == pytest.approx([0.5 * rate for (rate,) in plain])


def test_factors_multiply() -> None:
    """Every automation has a factor of its own."""
    factors = Factors({0: 0.5})

    class Second(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            factors.writer.set_factor("second", 3.0)

    rates = _run(Scheduled(SCHEDULERS["none"]), factors, Second())
    assert [rate for (rate,) in rates] == pytest.approx([0.05, *[0.15] * 23])


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_factor_is_refused(factor: float) -> None:
    """A factor is a finite number above 0."""
    with pytest.raises(ValueError, match="expected a finite factor above 0"):
        RateWriter(make_trainer()).set_factor("x", factor)


def test_nothing_is_touched_before_a_factor_differs_from_one() -> None:
    """A factor of 1 does not even change the scheduler's class."""
    factors = Factors({0: 1.0}, attach=False)
    classes = []

    class Look(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            classes.append(type(trainer.lr_scheduler_configs[0].scheduler))

    _run(Scheduled(SCHEDULERS["StepLR"]), factors, Look())
    assert set(classes) == {schedulers.StepLR}
    assert factors.writer.state_dict() == {}


def test_a_rate_that_someone_else_sets_is_the_new_scheduled_rate() -> None:
    """A rate found different is multiplied; it is not fought."""

    class Someone(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if trainer.global_step == 5:
                trainer.optimizers[0].param_groups[0]["lr"] = 0.02

    factors = Factors({0: 0.5})
    rates = _run(Scheduled(SCHEDULERS["none"]), Someone(), factors)
    assert [rate for (rate,) in rates] == pytest.approx([0.05] * 5 + [0.01] * 19)


def test_a_group_that_is_added_enters_with_its_own_rate() -> None:
    """The rate of a new group is its scheduled one."""

    class Adding(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if trainer.global_step == 5:
                new = torch.nn.Parameter(torch.ones(1))
                trainer.optimizers[0].add_param_group({"params": [new], "lr": 0.4})

    rates = _run(Scheduled(SCHEDULERS["none"]), Adding(), Factors({0: 0.5}))
    assert rates[4] == pytest.approx([0.05])
    assert rates[5] == pytest.approx([0.05, 0.2])
    assert rates[-1] == pytest.approx([0.05, 0.2])


def test_a_scheduler_that_is_put_in_during_training_is_taken_over() -> None:
    """Lightning's weight averaging swaps the scheduler; the new one is wrapped at the next batch."""

    class Swapping(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if trainer.global_step == 5:
                trainer.lr_scheduler_configs[0].scheduler = schedulers.ExponentialLR(trainer.optimizers[0], gamma=1.0)
            if trainer.global_step == 10:
                trainer.lr_scheduler_configs[0].scheduler.gamma = 0.5

    factors = Factors({0: 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rates = _run(Scheduled(lambda o: schedulers.ConstantLR(o, factor=1.0)), Swapping(), factors)
    assert [rate for (rate,) in rates[:12]] == pytest.approx([0.05] * 11 + [0.025])


class TensorRate(Scheduled):
    """The rate is a tensor, as compiled and captured optimizers want it."""

    def make_optimizer(self) -> Optimizer:
        self.rate = torch.tensor(0.1, dtype=torch.float64)
        return torch.optim.Adam(self.parameters(), lr=self.rate, foreach=False)


@pytest.mark.parametrize("name", ["ExponentialLR", "CosineAnnealingLR", "SequentialLR", "none"])
def test_a_tensor_rate_is_written_in_place(name: str) -> None:
    """The tensor holds the effective rate and stays the same object, unless torch's own scheduler replaces it."""
    kept: list[bool] = []

    class Look(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            kept.append(trainer.optimizers[0].param_groups[0]["lr"] is pl_module.rate)

    plain = _run(TensorRate(SCHEDULERS[name]), Look())
    ours = _run(TensorRate(SCHEDULERS[name]), Factors(FACTORS), Look())
    assert kept[0] or name == "SequentialLR"  # that of torch 2.6 puts a new tensor in its place
    assert kept[1] == kept[0]
    assert [rate for (rate,) in ours] == pytest.approx([rate * _factor(i) for i, (rate,) in enumerate(plain)], rel=1e-6)


class TwoOptimizers(LightningModule):
    """Manual optimization with two optimizers and two schedulers, one of which the user steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer, layer in zip(self.optimizers(), (self.first, self.second), strict=True):
            optimizer.zero_grad()
            self.manual_backward(layer(batch[0]).square().mean())
            optimizer.step()
        self.lr_schedulers()[0].step()

    def configure_optimizers(self) -> Any:
        optimizers = SGD(self.first.parameters(), lr=0.1), SGD(self.second.parameters(), lr=0.3)
        return list(optimizers), [schedulers.ExponentialLR(optimizer, gamma=0.9) for optimizer in optimizers]


def test_manual_optimization_with_two_optimizers_works_the_same() -> None:
    """The user's own step of a scheduler finds the scheduled rate; every optimizer gets the factor."""
    plain, ours = _run(TwoOptimizers()), _run(TwoOptimizers(), Factors({0: 0.5}))
    assert ours == [pytest.approx([0.5 * rate for rate in rates]) for rates in plain]
    assert plain[2][0] == pytest.approx(0.09)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("name", ["ExponentialLR", "CosineAnnealingLR", "CyclicLR", "none"])
def test_a_resumed_run_has_the_same_rates(name: str, tmp_path: Path) -> None:
    """The checkpoint's optimizer holds the effective rate, our state the scheduled one; together they go on exactly."""
    whole = _run(Scheduled(SCHEDULERS[name]), Factors(FACTORS))
    saving = ModelCheckpoint(dirpath=tmp_path, filename="half", every_n_train_steps=6)
    _run(Scheduled(SCHEDULERS[name]), Factors(FACTORS), saving, enable_checkpointing=True, epochs=2)
    checkpoint = torch.load(tmp_path / "half.ckpt", weights_only=True)
    (state,) = [item["rate"] for key, item in checkpoint["callbacks"].items() if key == "Factors"]
    (group,) = checkpoint["optimizer_states"][0]["param_groups"]
    assert state["written"] == [[group["lr"]]]
    assert state["scheduled"] == [[pytest.approx(group["lr"] / 0.25)]]
    rates = Rates()
    trainer = make_trainer([rates, Factors(FACTORS), saving], max_epochs=6, enable_checkpointing=True)
    trainer.fit(Scheduled(SCHEDULERS[name]), train_loader(batch_size=4, samples=16), ckpt_path=tmp_path / "half.ckpt")
    assert rates.rates == whole[6:]


def test_a_rate_that_was_changed_after_the_checkpoint_is_the_scheduled_one(tmp_path: Path) -> None:
    """Where the optimizer does not hold what we wrote, our saved rate is out of date."""
    writer_state = {"factors": {"test": 0.5}, "scheduled": [[0.4]], "written": [[0.2]]}
    factors = Factors(None)
    factors.saved = writer_state
    assert _run(Scheduled(SCHEDULERS["none"]), factors)[0] == [0.05]


def test_factors_of_other_automations_come_back_from_the_state() -> None:
    """The first automation that sets its factor again finds those of the others; the rate does not jump."""
    factors = Factors({0: 0.5})
    factors.saved = {"factors": {"test": 0.5, "other": 2.0}, "scheduled": [[0.7]], "written": [[0.1]]}
    assert _run(Scheduled(SCHEDULERS["none"]), factors)[0] == [pytest.approx(0.7)]
    factors.saved = {"factors": {"other": 2.0}, "scheduled": [[0.05]], "written": [[0.1]]}
    assert _run(Scheduled(SCHEDULERS["none"]), factors)[0] == [pytest.approx(0.05)]


def test_a_replaced_schedule_takes_the_place_of_the_scheduled_rate() -> None:
    """The schedulers go on without effect, and factors still count; empty, the schedule holds again."""
    factors = Factors({0: 0.5})

    class Replacing(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            factors.writer.replace_schedule([[1.0]] if trainer.global_step < 20 else [])

    rates = _run(Scheduled(SCHEDULERS["ExponentialLR"]), factors, Replacing())
    assert [rate for (rate,) in rates[1:20]] == pytest.approx([0.5] * 19)
    assert rates[20] == pytest.approx([0.05 * 0.9**20])


def test_a_run_can_be_copied_and_pickled_during_and_after_the_fit() -> None:
    """Copies are plain schedulers, and after the fit so is the original; its rate stays the effective one."""
    copies = []

    class Copying(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            copies.append(copy.deepcopy(trainer.lr_scheduler_configs[0].scheduler))

    factors, trainer_seen = Factors({0: 0.5}), []

    class Seeing(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer_seen.append(trainer)

    _run(Scheduled(SCHEDULERS["StepLR"]), factors, Copying(), Seeing())
    scheduler = trainer_seen[0].lr_scheduler_configs[0].scheduler
    assert type(scheduler) is type(copies[0]) is schedulers.StepLR
    assert type(pickle.loads(pickle.dumps(scheduler))) is schedulers.StepLR
    assert scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.5**8)
    assert factors.writer.effective == factors.writer.scheduled


def test_a_scheduler_in_a_scheduler_of_the_trainer_steps_once() -> None:
    """A user's scheduler that steps another one of the trainer's does so on the scheduled rates."""

    class Outer(schedulers.LambdaLR):
        inner: Any = None

        def step(self, epoch: int | None = None) -> None:
            if self.inner is not None:
                self.inner.step()

    class Nested(Scheduled):
        def configure_optimizers(self) -> Any:
            optimizer = self.make_optimizer()
            outer = Outer(optimizer, lambda count: 1.0)
            outer.inner = schedulers.ExponentialLR(optimizer, gamma=0.9)
            configs = [{"scheduler": item, "interval": "step"} for item in (outer, outer.inner)]
            return [optimizer], configs

    plain, ours = _run(Nested(SCHEDULERS["none"])), _run(Nested(SCHEDULERS["none"]), Factors({0: 0.5}))
    assert [rate for (rate,) in ours] == pytest.approx([0.5 * rate for (rate,) in plain])


def test_a_module_without_optimizer_is_left_alone() -> None:
    """There is nothing to write."""

    class Plain(Scheduled):
        def configure_optimizers(self) -> None:
            return None

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*configure_optimizers.*")
        assert _run(Plain(SCHEDULERS["none"]), Factors({0: 0.5})) == [[]] * 24
