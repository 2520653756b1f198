"""Where the batch is kept, larger batches take the place of accumulation: the same samples in every optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from lightning_automations import DynamicBatchSizeOptimizer
from tests.callbacks.helpers import ResumableLoader, SaveAt, make_trainer, weights
from tests.callbacks.memory_helpers import MadeUpMemory
from tests.callbacks.test_batch_size_growth import SAMPLES, VALIDATION, Numbers, Validated, growing, one_cycle
from tests.requirements import resumes_after_last_batch


class Steps(Callback):
    """The samples, the rate and the weights of each optimizer step."""

    def __init__(self) -> None:
        self.samples: list[list[int]] = [[]]
        self.rates: list[float] = []
        self.weights: list[list[float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Tensor, *_: Any) -> None:
        self.samples[-1] += [int(value) for value in batch.flatten()]
        if trainer.global_step > len(self.rates):
            self.samples.append([])
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            self.weights.append([value for parameter in module.parameters() for value in parameter.flatten().tolist()])


class Mean(Validated):
    """A mean over samples; memory runs out above ``fits`` samples from an epoch on.

    Args:
        fits: By epoch, the most samples that a step takes; of other epochs: all.
        schedule: Makes a schedule that is stepped every step.
    """

    def __init__(self, fits: dict[int, int] | None = None, *, schedule: Any = None) -> None:
        super().__init__(schedule=schedule)
        self.fits = fits or {}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if len(batch) > self.fits.get(self.trainer.current_epoch, SAMPLES):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().training_step(batch, batch_idx)


def keeping(module: Validated, **settings: Any) -> DynamicBatchSizeOptimizer:
    """The automation with ``effective_batch: keep`` written and a memory that has room for 32 samples."""
    return growing(module, **{"effective_batch": "keep", "max_batch_size": 32, "adjustment_frequency": 1, **settings})


def fitted(module: Validated, *callbacks: Any, data: Any = None, **options: Any) -> tuple[Steps, pl.Trainer]:
    """The steps of three epochs, with batches of 4 samples and 4 of them accumulated."""
    steps = Steps()
    arguments = {"max_epochs": 3, "accumulate_grad_batches": 4, "num_sanity_val_steps": 0, **options}
    path = arguments.pop("ckpt_path", None)
    trainer = make_trainer([*callbacks, steps], **arguments)
    trainer.fit(module, DataLoader(Numbers(), batch_size=4) if data is None else data, VALIDATION, ckpt_path=path)
    return steps, trainer


def changes(automation: DynamicBatchSizeOptimizer) -> list[tuple[Any, ...]]:
    """What was adjusted, from what to what, in which epoch, and why."""
    return [(item.parameter, item.old, item.new, item.epoch, str(item.reason)) for item in automation.adjustments]


def assert_same_training(one: Steps, other: Steps) -> None:
    """The same samples and rates in every step, and weights to 1e-6."""
    assert one.samples == other.samples
    assert one.rates == other.rates
    for mine, others in zip(one.weights, other.weights, strict=True):
        assert mine == pytest.approx(others, rel=1e-6, abs=1e-9)


def step_schedule(optimizer: Any) -> Any:
    """A rate that is another one after every step."""
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def test_each_step_trains_what_accumulation_would() -> None:
    """Samples, rates, weights and validations of a run that accumulates; four batches have become one."""
    plain, module = Mean(schedule=step_schedule), Mean(schedule=step_schedule)
    automation = keeping(module)
    expected, _ = fitted(plain)
    steps, trainer = fitted(module, automation)
    assert_same_training(steps, expected)
    assert module.sizes == [4] * 12 + [16] * 6
    assert module.validations == plain.validations
    assert changes(automation) == [("accumulate_grad_batches", 4, 1, 1, "memory_below_target")]
    assert automation.adjustments[0].evidence["batch_size"] == 16
    assert trainer.accumulate_grad_batches == 4  # as it was given, once the fit is over


def test_it_goes_to_the_largest_size_that_memory_has_room_for() -> None:
    """Batches of 16 would be above the band; those of 12 are no divisor of a step's 16 samples."""
    module = Mean()
    automation = keeping(module)
    automation._make_probe = lambda _: MadeUpMemory(lambda size: 0.05 + 0.06 * size, module.sizes, before=0.05)
    fitted(module, automation)
    assert module.sizes == [4] * 12 + [8] * 12
    assert changes(automation) == [("accumulate_grad_batches", 4, 2, 1, "memory_below_target")]


@pytest.mark.parametrize("limit", ["max_batch_size", "validation", "an epoch's batches"])
def test_a_size_that_would_move_something_is_left_out(limit: str) -> None:
    """Of 8 and 16 samples, 16 is above max_batch_size, misses a validation, or leaves a rest of the epoch."""
    settings = {"max_batch_size": 15} if limit == "max_batch_size" else {}
    options = {"val_check_interval": 6} if limit == "validation" else {}
    data = DataLoader(Numbers(40 if limit.startswith("an epoch") else SAMPLES), batch_size=4)
    plain, module = Mean(), Mean()
    expected, _ = fitted(plain, data=data, **options)
    steps, _ = fitted(module, keeping(module, **settings), data=data, **options)
    assert {4, 8} == set(module.sizes)
    assert module.validations == plain.validations
    assert_same_training(steps, expected)


@pytest.mark.parametrize("memory", ["runs out", "is above the target"])
def test_accumulation_comes_back_when_memory_is_taken_away(memory: str) -> None:
    """Within an epoch batches are run in pieces; from the next one on they are smaller, with the same steps."""
    plain, module = Mean(), Mean({2: 9} if memory == "runs out" else None)
    automation = keeping(module)
    if memory == "is above the target":

        def share(size: int) -> float:
            return 0.05 + 0.025 * size + (0.5 if len(module.epochs) > 2 else 0.0)  # someone else's

        automation._make_probe = lambda _: MadeUpMemory(share, module.sizes, before=0.05)
    expected, _ = fitted(plain, max_epochs=5)
    steps, _ = fitted(module, automation, max_epochs=5)
    assert_same_training(steps, expected)
    whole = {"runs out": 0, "is above the target": 2}[memory]
    assert module.sizes == [4] * 12 + [16] * 3 + [16] * whole + [8] * 2 * (3 - whole) + [8] * 12
    reason = {"runs out": "out_of_memory", "is above the target": "memory_above_target"}[memory]
    assert changes(automation)[0] == ("accumulate_grad_batches", 4, 1, 1, "memory_below_target")
    assert changes(automation)[-1] == ("accumulate_grad_batches", 1, 2, 3, reason)
    assert [item[0] for item in changes(automation)[1:-1]] == ["micro_batch_size"]


def test_where_nothing_was_written_nothing_changes() -> None:
    """The default is to keep the batch, too, but bit-identical to plain Lightning; so is a dry run."""
    plain, default, dry = Mean(), Mean(), Mean()
    expected, _ = fitted(plain)
    unwritten = DynamicBatchSizeOptimizer(adjustment_frequency=1)
    unwritten._make_probe = keeping(default)._make_probe
    would = keeping(dry, dry_run=True)
    assert fitted(default, unwritten)[0].weights == expected.weights
    assert fitted(dry, would)[0].weights == expected.weights
    assert set(default.sizes) == set(dry.sizes) == {4}
    assert unwritten.adjustments == []
    assert changes(would) == [("accumulate_grad_batches", 4, 1, 1, "memory_below_target")]


def test_a_schedule_for_the_whole_run_is_no_obstacle() -> None:
    """The number of steps stays, unlike with growth."""
    plain, module = Mean(schedule=one_cycle), Mean(schedule=one_cycle)
    options: dict[str, Any] = {"data": DataLoader(Numbers(), batch_size=4), "accumulate_grad_batches": 3}
    expected, _ = fitted(plain, **options)
    steps, _ = fitted(module, keeping(module), **options)
    assert_same_training(steps, expected)
    assert set(module.sizes) == {4, 12}


def test_the_logged_rate_and_steps_are_those_of_accumulation(tmp_path: Path) -> None:
    """LearningRateMonitor writes the same rates at the same steps."""
    written = []
    for name, automated in (("plain", False), ("automated", True)):
        module = Mean(schedule=step_schedule)
        logger = CSVLogger(tmp_path, name=name)
        callbacks = [keeping(module, journal=False)] if automated else []
        fitted(module, *callbacks, LearningRateMonitor("step"), logger=logger, log_every_n_steps=1)
        lines = (Path(logger.log_dir) / "metrics.csv").read_text(encoding="utf-8").splitlines()
        names = lines[0].split(",")
        columns = names.index("lr-SGD"), names.index("step")
        rows = [line.split(",") for line in lines[1:]]
        written.append({tuple(row[column] for column in columns) for row in rows if row[columns[0]]})
    assert len(written[0]) == 9
    assert written[0] == written[1]


# Where it stays as it is ----------------------------------------------------------------------------------------------


class Summed(Mean):
    """Says that its loss is a sum."""

    loss_reduction = "sum"


class EverySecond(Mean):
    """Steps its schedule every second batch, as Lightning counts."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        return [optimizer], [{"scheduler": step_schedule(optimizer), "interval": "step", "frequency": 2}]


class OwnBatches(BatchSampler):
    """A batch sampler that might put other samples together."""


class Takes(Callback):
    """Sets the accumulation itself."""

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trainer.accumulate_grad_batches = 3


def of(samples: int, **options: Any) -> DataLoader[Any]:
    """Batches of 4."""
    return DataLoader(Numbers(samples), batch_size=4, **options)


def own_batches() -> DataLoader[Any]:
    """From a batch sampler of another class."""
    return DataLoader(Numbers(), batch_sampler=OwnBatches(SequentialSampler(Numbers()), 4, drop_last=False))


@pytest.mark.parametrize(
    ("kind", "data", "options", "why"),
    [
        (Mean, lambda: of(47), {}, "no batch of up to max_batch_size"),
        (Mean, lambda: of(44), {}, "no batch of up to max_batch_size"),
        (Mean, lambda: of(48), {"val_check_interval": 8, "check_val_every_n_epoch": None}, "no batch of up to"),
        (Mean, lambda: [of(48), of(48)], {}, "2 training loaders"),
        (Mean, own_batches, {}, "a batch sampler of its own"),
        (Summed, lambda: of(48), {}, "no mean over samples"),
        (EverySecond, lambda: of(48), {}, "its frequency"),
        (Mean, lambda: of(48), {"callbacks": lambda: [Takes()]}, "another callback has changed"),
    ],
)
def test_where_steps_would_change_it_says_so_and_leaves_all(
    kind: type[Mean], data: Any, options: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever would give another training, or belongs to someone else, is left alone and said once."""

    class OfSeveral(kind):  # type: ignore[misc,valid-type]
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss: Tensor = super().training_step(batch[0] if isinstance(batch, list) else batch, batch_idx)
            return loss

    caplog.set_level("INFO")
    module, others = OfSeveral(), dict(options)
    automation = keeping(module)
    callbacks = [automation, *others.pop("callbacks", list)()]
    arguments = {"max_epochs": 3, "accumulate_grad_batches": 4, "num_sanity_val_steps": 0, **others}
    make_trainer(callbacks, **arguments).fit(module, data(), VALIDATION)
    assert max(module.sizes) == 4
    assert automation.adjustments == []
    told = [item.message for item in caplog.records if "the accumulation is left as it is" in item.message]
    assert len(told) == 1
    assert why in told[0]


def test_a_scheduler_of_the_accumulation_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It owns the number: the trainer itself starts with 1 and the schedule decides."""
    caplog.set_level("INFO")
    module = Mean()
    automation = keeping(module)
    fitted(module, GradientAccumulationScheduler({0: 2, 1: 4}), automation, accumulate_grad_batches=1)
    assert set(module.sizes) == {4}
    assert automation.adjustments == []
    assert sum("GradientAccumulationScheduler" in item.message for item in caplog.records) == 1


# Resume ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, pytest.param(3, marks=resumes_after_last_batch), 4, 7])
def test_a_resumed_run_goes_on_with_size_and_accumulation(step: int, tmp_path: Path) -> None:
    """Stopped before the change, at the epoch's end and after it: same batches, weights and adjustments."""

    def data() -> ResumableLoader:
        return ResumableLoader(Numbers(), batch_size=4)

    whole, saving = Mean(), SaveAt(step, tmp_path)
    automation = keeping(whole)
    fitted(whole, automation, saving, data=data())
    assert whole.sizes == [4] * 12 + [16] * 6

    resumed = Mean()
    resumed.epochs.append([])
    again, own = keeping(resumed), data()
    trainer = make_trainer([again], max_epochs=3, accumulate_grad_batches=4)
    trainer.fit(resumed, own, VALIDATION, ckpt_path=saving.path)
    assert resumed.sizes == whole.sizes[4 * step if step <= 3 else 12 + step - 3 :]
    assert again.adjustments == automation.adjustments
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))
    assert own.batch_sampler.batch_size == 4  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"accumulate_grad_batches": 2}),
        ({}, {"accumulate_grad_batches": 1}),
        ({"max_batch_size": 8}, {"accumulate_grad_batches": 4}),
        ({"effective_batch": "grow"}, {"accumulate_grad_batches": 4}),
    ],
)
def test_what_is_given_now_wins_over_the_checkpoint(
    settings: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    """Another accumulation, bound or rule: the run goes on with the loader's batch as it is given."""

    class Saves(Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            trainer.save_checkpoint(tmp_path / "end.ckpt")

    whole, resumed = Mean(), Mean()
    fitted(whole, keeping(whole), Saves(), max_epochs=2)
    assert whole.sizes[-1] == 16
    automation = keeping(resumed, **{"adjustment_frequency": 100, **settings})
    fitted(resumed, automation, **options, ckpt_path=tmp_path / "end.ckpt")
    assert resumed.sizes == [4] * 12


@pytest.mark.parametrize("other", [None, 12])
def test_a_loader_that_is_made_anew(other: int | None) -> None:
    """With the given batch it goes on with the size; with another one the accumulation is the given one again."""

    class Reloading(Mean):
        def train_dataloader(self) -> Any:
            batch = other if other is not None and self.trainer.current_epoch == 2 else 4
            return DataLoader(Numbers(), batch_size=batch)

    def steps_with(callbacks: Callable[[Mean], list[Any]]) -> tuple[Mean, Steps]:
        module, steps = Reloading(), Steps()
        options = {"accumulate_grad_batches": 4, "reload_dataloaders_every_n_epochs": 1, "num_sanity_val_steps": 0}
        make_trainer([*callbacks(module), steps], max_epochs=3, **options).fit(module, val_dataloaders=VALIDATION)
        return module, steps

    _, expected = steps_with(lambda _: [])
    module, steps = steps_with(lambda module: [keeping(module)])
    assert module.sizes == [4] * 12 + [16] * 3 + ([16] * 3 if other is None else [other] * 4)
    assert_same_training(steps, expected)
