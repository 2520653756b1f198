"""The loader's batch grows between epochs: every sample once, validation at its place, all counts right."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar, TQDMProgressBar
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from lightning_automations import AdaptiveGradientClipping, DynamicBatchSizeOptimizer
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.helpers import ResumableLoader, SaveAt, make_trainer, weights
from tests.callbacks.memory_helpers import MadeUpMemory
from tests.requirements import resumes_after_last_batch

SAMPLES = 48
# torch 2.6 warns of how its own SequentialLR calls the schedules inside it
OWN_CALL_OF_SEQUENTIAL = "ignore:The epoch parameter in `scheduler.step:UserWarning"


class Numbers(Dataset[Tensor]):
    """The numbers from 0 up: a sample says which one it is."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([float(index)])


class Stream(IterableDataset[Tensor]):
    """The same without a length."""

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.tensor([float(index)]) for index in range(SAMPLES))


class Counting(pl.LightningModule):
    """Keeps what it was given: the samples of each epoch, and where it was validated."""

    def __init__(self, *, adam: bool = False, schedule: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 1)
        self.adam = adam
        self.schedule = schedule
        self.sizes: list[int] = []
        self.epochs: list[list[int]] = []
        self.validations: list[tuple[int, int]] = []
        self.totals: list[float] = []
        self.finals: list[float] = []
        self.ended = 0

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])
        self.totals.append(self.trainer.num_training_batches)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.sizes.append(len(batch))
        self.epochs[-1] += [int(value) for value in batch.flatten()]
        return (self.layer(batch / SAMPLES) ** 2).mean()

    def on_train_epoch_end(self) -> None:
        self.ended += 1
        self.finals.append(self.trainer.num_training_batches)
        assert self.trainer.is_last_batch

    def configure_optimizers(self) -> Any:
        kind = torch.optim.Adam if self.adam else torch.optim.SGD
        optimizer = kind(self.parameters(), lr=0.01)
        if self.schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": "step"}}


class Validated(Counting):
    """The same with a validation."""

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validations.append((len(self.epochs) - 1, len(self.epochs[-1])))


def growing(module: Counting, **settings: Any) -> DynamicBatchSizeOptimizer:
    """The automation with a memory in which batches of 32 samples are in the band, beginning at 8."""
    options = {"adjustment_frequency": 1, "effective_batch": "grow", "max_batch_size": 16, **settings}
    automation = DynamicBatchSizeOptimizer(**options)
    automation._make_probe = lambda _: MadeUpMemory(lambda size: 0.05 + 0.025 * size, module.sizes, before=0.05)
    return automation


def loader(**options: Any) -> DataLoader[Any]:
    """Batches of 8 numbers."""
    return DataLoader(Numbers(), **{"batch_size": 8, **options})


VALIDATION = DataLoader(Numbers(4), batch_size=4)


class Steps(Callback):
    """Counts how often a schedule that is stepped once per epoch was stepped, seen at the end of the fit."""

    def __init__(self) -> None:
        self.of_schedule = self.of_optimizer = 0

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.of_schedule = trainer.lr_scheduler_configs[0].scheduler.last_epoch
        self.of_optimizer = trainer.global_step


class RunsOut(Validated):
    """Holds three samples from the fourth batch on, and keeps what was trained, not what was tried.

    Args:
        fails: Whether memory runs out at all.
    """

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self.fails = fails
        self.batches = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.fails and self.batches >= 3 and len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.9)}


LOADERS = [
    {"drop_last": drop_last, "shuffle": shuffle, **workers}
    for drop_last in (False, True)
    for shuffle in (False, True)
    for workers in ({}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True})
]
FEW_LOADERS = LOADERS[::5]  # each option once at least, and 0 workers, 2, and 2 that persist


AT_START = "grows at an epoch's start"
REPLACES = "takes the place of accumulation"
SHRINKS = "shrinks within an epoch"
WITHIN = "grows within an epoch"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a row of the matrix comes to: sizes of all batches, batches of each epoch as known at its start and end."""

    sizes: list[int]
    totals: list[int]
    finals: list[int]
    steps: int


@dataclass(frozen=True, kw_only=True)
class Change:
    """A row of the matrix: settings, arguments of the trainer, the loader's batch, and what it comes to.

    Args:
        with_workers: Where it comes to something else with two workers, which draw four batches ahead.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 8
    counts: Counts
    with_workers: Counts | None = None
    adjustments: list[tuple[Any, ...]]

    def counts_with(self, options: dict[str, Any]) -> Counts:
        """What it comes to with this loader."""
        return self.with_workers if self.with_workers is not None and "num_workers" in options else self.counts


CHANGES = {
    AT_START: Change(
        counts=Counts(sizes=[8] * 6 + [16] * 6, totals=[6, 3, 3], finals=[6, 3, 3], steps=12),
        adjustments=[("batch_size", 8, 16, 6, 1)],
    ),
    WITHIN: Change(
        settings={"max_batch_size": 2},
        arguments={"accumulate_grad_batches": 2},
        batch_size=1,
        counts=Counts(sizes=[1] * 6 + [2] * 69, totals=[48, 24, 24], finals=[27, 24, 24], steps=38),
        with_workers=Counts(sizes=[1] * 10 + [2] * 67, totals=[48, 24, 24], finals=[29, 24, 24], steps=39),
        adjustments=[("batch_size", 1, 2, 3, 0)],
    ),
    SHRINKS: Change(
        settings={"effective_batch": "keep", "adjustment_frequency": 100},
        counts=Counts(sizes=[8] * 3 + [2] * 4 * 15, totals=[6, 6, 6], finals=[6, 6, 6], steps=18),
        adjustments=[("micro_batch_size", 8, 4, 3, 0), ("micro_batch_size", 4, 2, 3, 0)],
    ),
    REPLACES: Change(
        settings={"effective_batch": "keep"},
        arguments={"accumulate_grad_batches": 2},
        counts=Counts(sizes=[8] * 6 + [16] * 6, totals=[6, 3, 3], finals=[6, 3, 3], steps=9),
        adjustments=[("accumulate_grad_batches", 2, 1, 3, 1)],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("options", LOADERS, ids=lambda options: "-".join(map(str, options.values())))
def test_every_sample_is_seen_once_per_epoch(options: dict[str, Any], change: str) -> None:
    """Whatever the loader: no change loses a sample or repeats one; validation, epoch ends and schedules stay."""
    row = CHANGES[change]
    module, steps = RunsOut(fails=change == SHRINKS), Steps()
    automation = growing(module, **row.settings)
    trainer = make_trainer([automation, steps], max_epochs=3, num_sanity_val_steps=0, **row.arguments)
    trainer.fit(module, loader(**{"batch_size": row.batch_size, **options}), VALIDATION)
    assert [sorted(epoch) for epoch in module.epochs] == [list(range(SAMPLES))] * 3
    assert module.validations == [(0, SAMPLES), (1, SAMPLES), (2, SAMPLES)]
    assert module.ended == steps.of_schedule == 3
    got = Counts(sizes=module.sizes, totals=module.totals, finals=module.finals, steps=steps.of_optimizer)
    assert got == row.counts_with(options)
    changes = [(item.parameter, item.old, item.new, item.step, item.epoch) for item in automation.adjustments]
    assert changes == row.adjustments


def test_a_last_batch_that_is_smaller_is_still_seen() -> None:
    """48 samples in batches of 14 make four batches, the last of 6; with drop_last it is left out as before."""
    for drop_last, expected in ((False, [14, 14, 14, 6]), (True, [14, 14, 14])):
        module = Counting()
        make_trainer([growing(module, max_batch_size=14)], max_epochs=2).fit(module, loader(drop_last=drop_last))
        assert module.sizes[6:] == expected


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        ({"val_check_interval": 1.0}, [48], [48]),
        ({"val_check_interval": 0.34}, [16, 32, 48], [16, 32, 48]),
        ({"val_check_interval": 2}, [16, 32, 48], [16, 32, 48]),
        ({"val_check_interval": 3}, [24, 48], [32]),  # 24 samples are no whole number of batches of 16
        ({"val_check_interval": 6}, [48], [48]),
        ({"val_check_interval": 6, "check_val_every_n_epoch": None}, [48], [48]),
        ({"check_val_every_n_epoch": 2}, [], [48]),
    ],
)
def test_validation_comes_after_the_same_samples(options: dict[str, Any], first: list[int], second: list[int]) -> None:
    """An interval, a share of the epoch or a number of batches, stands for so many samples."""
    module = Validated()
    make_trainer([growing(module)], max_epochs=2, num_sanity_val_steps=0, **options).fit(module, loader(), VALIDATION)
    assert module.totals == [6, 3]
    assert [[place for epoch, place in module.validations if epoch == number] for number in (0, 1)] == [first, second]


@pytest.mark.parametrize(("limit", "samples"), [(4, 32), (0.5, 24)])
def test_a_limit_of_batches_stands_for_so_many_samples(limit: Any, samples: int) -> None:
    """limit_train_batches keeps an epoch's samples, up to the rounding to whole batches."""
    module = Counting()
    make_trainer([growing(module)], max_epochs=2, limit_train_batches=limit).fit(module, loader())
    assert module.epochs[0] == list(range(samples))
    assert module.epochs[1] == list(range(samples // 16 * 16))


@pytest.mark.parametrize("bar", [TQDMProgressBar, RichProgressBar])
@pytest.mark.parametrize("before", [True, False])
def test_progress_bars_show_the_new_number_of_batches(bar: Any, before: bool) -> None:
    """Also a bar that stands before the automation and has read the old number."""

    class Totals(bar):  # type: ignore[misc,valid-type]
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            super().on_train_batch_end(trainer, *args)
            totals.append(self._shown_total())

        def _shown_total(self) -> float:
            if bar is TQDMProgressBar:
                return float(self.train_progress_bar.total)
            return float(self.progress.tasks[self.train_progress_bar_id].total)

    totals: list[float] = []
    module = Counting()
    automation = growing(module)
    callbacks = [Totals(), automation] if before else [automation, Totals()]
    make_trainer(callbacks, max_epochs=2, enable_progress_bar=True).fit(module, loader())
    assert totals == [6] * 6 + [3] * 3


def test_growth_stops_at_the_band_and_at_the_largest_size() -> None:
    """To the double, then to the size that the line predicts, within max_batch_size and the samples of an epoch."""
    module = Counting()
    automation = growing(module, max_batch_size=512)
    make_trainer([automation], max_epochs=5).fit(module, loader())
    assert [(item.old, item.new, item.epoch) for item in automation.adjustments] == [(8, 16, 1), (16, 31, 2)]
    assert automation.adjustments[0].reason == "memory_below_target"

    few = Counting()
    automation = growing(few, max_batch_size=512)
    make_trainer([automation], max_epochs=9).fit(few, DataLoader(Numbers(20), batch_size=8, drop_last=True))
    assert [(item.old, item.new) for item in automation.adjustments] == [(8, 16), (16, 20)]


@pytest.mark.parametrize(
    ("adam", "rule", "factor"),
    [
        (False, "auto", math.sqrt(2)),
        (True, "auto", math.sqrt(2)),
        (False, "linear", 2.0),
        (True, "linear", 2.0),
        (True, "none", 1.0),
    ],
)
def test_the_learning_rate_follows_the_batch(adam: bool, rule: str, factor: float) -> None:
    """The square root for every optimizer, or what is written; through the one writer of the rate."""
    module = Counting(adam=adam)
    trainer = make_trainer([growing(module, lr_scaling=rule)], max_epochs=2)
    trainer.fit(module, loader())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * factor)


def test_the_other_automations_are_told() -> None:
    """A grown batch is announced with its ratio; pieces change nothing that the optimizer sees and are not."""
    heard: list[Event] = []

    class Listening(AdaptiveGradientClipping):
        def hear(self, trainer: pl.Trainer, event: Event) -> None:
            heard.append(event)

    module = Counting()
    make_trainer([growing(module), Listening()], max_epochs=2).fit(module, loader())
    assert heard == [Event(kind=EventKind.BATCH_CHANGED, step=6, ratio=2.0)]


# Where it stays as it is ----------------------------------------------------------------------------------------------


class FixedBatches:
    """A batch sampler without a batch_size."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter([list(range(start, start + 8)) for start in range(0, SAMPLES, 8)])

    def __len__(self) -> int:
        return SAMPLES // 8


class WithoutLength(Sampler[int]):
    """A sampler that does not say how many samples it gives."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(SAMPLES))


class StubbornBatches(FixedBatches):
    """One whose batch_size says nothing about its batches."""

    batch_size = 8
    sampler = range(SAMPLES)


class AloneBatches(StubbornBatches):
    """One that does not say how many samples it gives."""

    sampler = None  # type: ignore[assignment]


class PreparedBatches(BatchSampler):
    """Batches that were made before: torch's ``__len__`` follows the batch_size, they do not."""

    def __init__(self) -> None:
        super().__init__(SequentialSampler(Numbers()), batch_size=8, drop_last=False)
        self.batches = [*super().__iter__()]

    def __iter__(self) -> Iterator[list[int]]:
        random.shuffle(self.batches)
        return iter(self.batches)


class SealedBatches(PreparedBatches):
    """One whose size cannot be set."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            raise AttributeError(name)
        super().__setattr__(name, value)


def one_cycle(optimizer: Any) -> Any:
    """A schedule for exactly this run: 2 epochs of 6 steps."""
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=12)


def falling(optimizer: Any, steps: int) -> Any:
    """The same length in a function's surroundings."""
    return LambdaLR(optimizer, lambda step: 1 - step / steps)


class Falling:
    """The same length in an object."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: int) -> float:
        return 1 - step / self.steps


def cosine_after_warmup(optimizer: Any) -> Any:
    """The same length, made of two schedules."""
    kinds = torch.optim.lr_scheduler
    parts = [kinds.LinearLR(optimizer, total_iters=4), kinds.CosineAnnealingLR(optimizer, T_max=8)]
    return kinds.SequentialLR(optimizer, parts, milestones=[4])


@pytest.mark.parametrize(
    ("data", "schedule", "why"),
    [
        (lambda: DataLoader(Stream(), batch_size=8), None, "no DataLoader over a dataset with a length"),
        (lambda: DataLoader(Numbers(), batch_sampler=FixedBatches()), None, "without a batch_size"),
        (lambda: DataLoader(Numbers(), batch_sampler=StubbornBatches()), None, "does not follow"),
        (lambda: DataLoader(Numbers(), batch_sampler=PreparedBatches()), None, "does not follow"),
        (lambda: DataLoader(Numbers(), batch_sampler=SealedBatches()), None, "does not follow"),
        (lambda: DataLoader(Numbers(), batch_sampler=AloneBatches()), None, "has no sampler with a length"),
        (lambda: DataLoader(Numbers(), batch_size=8, sampler=WithoutLength()), None, "has no sampler with a length"),
        (lambda: [loader(), loader()], None, "2 training loaders"),
        (loader, one_cycle, "OneCycleLR"),
        (loader, lambda optimizer: falling(optimizer, 12), "LambdaLR"),
        (loader, lambda optimizer: LambdaLR(optimizer, lambda step, of=12: 1 - step / of), "LambdaLR"),
        (loader, lambda optimizer: LambdaLR(optimizer, lambda step: 1 - step / 12), "LambdaLR"),
        (loader, lambda optimizer: LambdaLR(optimizer, Falling(12)), "LambdaLR"),
        (loader, cosine_after_warmup, "SequentialLR"),
    ],
)
@pytest.mark.filterwarnings(OWN_CALL_OF_SEQUENTIAL)
def test_where_growth_would_harm_it_says_so_and_leaves_the_loader(
    data: Any, schedule: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Loaders whose batches cannot be changed, and schedules that were made for the number of steps."""

    class FirstOfSeveral(Counting):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch[0] if isinstance(batch, (list, tuple)) else batch, batch_idx)

    caplog.set_level("INFO")
    module = FirstOfSeveral(schedule=schedule)
    automation = growing(module)
    make_trainer([automation], max_epochs=2).fit(module, data())
    assert set(module.sizes) == {8}
    assert automation.adjustments == []
    assert sum("left as it is" in record.message and why in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("settings", [{"effective_batch": "keep"}, {"max_batch_size": 8}])
def test_the_loader_is_left_alone_where_the_settings_say_so(settings: dict[str, Any]) -> None:
    """effective_batch: keep, and a loader that starts at max_batch_size or above."""
    module = Counting()
    make_trainer([growing(module, **settings)], max_epochs=2).fit(module, loader())
    assert set(module.sizes) == {8}


def test_the_batch_grows_only_where_that_is_written(caplog: pytest.LogCaptureFixture) -> None:
    """Growth changes the training, so it is no default on any device; a run that had room for it says so once."""
    caplog.set_level("INFO")
    module = Counting()
    automation = DynamicBatchSizeOptimizer(adjustment_frequency=1)
    automation._make_probe = lambda _: MadeUpMemory(lambda size: 0.025 * size, module.sizes)
    make_trainer([automation], max_epochs=3).fit(module, loader())
    assert automation.settings.effective_batch == "keep"
    assert set(module.sizes) == {8}
    assert sum("effective_batch: grow is written" in record.message for record in caplog.records) == 1


def test_a_custom_batch_sampler_with_a_batch_size_grows() -> None:
    """A sampler that follows its batch_size is as good as torch's own."""

    class Own(BatchSampler):
        pass

    module = Counting()
    sampler = Own(SequentialSampler(Numbers()), batch_size=8, drop_last=False)
    make_trainer([growing(module)], max_epochs=2).fit(module, DataLoader(Numbers(), batch_sampler=sampler))
    assert module.sizes == [8] * 6 + [16] * 3


class Shuffled(BatchSampler):
    """Torch's under another name, with a random generator of its own."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        super().__init__(RandomSampler(Numbers(), generator=generator), batch_size=8, drop_last=False)


@pytest.mark.parametrize("kind", [PreparedBatches, Shuffled])
def test_trying_a_batch_sampler_draws_no_random_number(kind: Any) -> None:
    """The batches come in the order in which they come without the automation."""
    orders = []
    for callbacks in ([], [DynamicBatchSizeOptimizer(effective_batch="grow")]):
        module = Counting()
        random.seed(3)
        make_trainer(callbacks, max_epochs=1).fit(module, DataLoader(Numbers(), batch_sampler=kind()))
        orders.append(module.epochs)
    assert orders[0] == orders[1] != [[*range(SAMPLES)]]


def test_a_dry_run_changes_nothing_and_tells_what_it_would_do() -> None:
    """The weights are bit-identical to plain Lightning's and the growth stands in the adjustments, once."""
    plain, dry = Counting(), Counting()
    automation = growing(dry, dry_run=True)
    make_trainer([], max_epochs=3).fit(plain, loader())
    make_trainer([automation], max_epochs=3).fit(dry, loader())
    assert all(torch.equal(a, b) for a, b in zip(weights(dry), weights(plain), strict=True))
    assert [(item.old, item.new) for item in automation.adjustments] == [(8, 16)]


# Resume ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        3,
        pytest.param(6, marks=resumes_after_last_batch),
        7,
        pytest.param(9, marks=resumes_after_last_batch),
        11,
    ],
)
def test_a_resumed_run_goes_on_with_the_size_it_had_reached(step: int, tmp_path: Path) -> None:
    """Before the growth, at the epoch's end, in the middle of a later epoch: same batches, weights and adjustments."""
    whole, saving = Counting(), SaveAt(step, tmp_path)
    automation = growing(whole)
    make_trainer([automation, saving], max_epochs=4).fit(whole, ResumableLoader(Numbers(), batch_size=8))
    assert whole.sizes == [8] * 6 + [16] * 9

    resumed = Counting()
    again = growing(resumed)
    trainer = make_trainer([again], max_epochs=4)
    resumed.epochs.append([])
    data = ResumableLoader(Numbers(), batch_size=8)
    trainer.fit(resumed, data, ckpt_path=saving.path)
    assert resumed.sizes == whole.sizes[step:]
    assert again.adjustments == automation.adjustments
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * math.sqrt(2))
    assert data.batch_sampler.batch_size == 8  # type: ignore[union-attr]


def test_a_loader_that_is_made_anew_goes_on_with_the_size(tmp_path: Path) -> None:
    """reload_dataloaders_every_n_epochs brings the original batch size back; the reached one is put in again."""

    class Reloading(Counting):
        def train_dataloader(self) -> DataLoader[Any]:
            return loader()

    module = Reloading()
    make_trainer([growing(module)], max_epochs=3, reload_dataloaders_every_n_epochs=1).fit(module)
    assert module.sizes == [8] * 6 + [16] * 6
    assert [sorted(epoch) for epoch in module.epochs] == [list(range(SAMPLES))] * 3


def test_a_second_fit_goes_on_with_the_size() -> None:
    """The same Trainer, trained on: the size that was reached, from its first step."""
    module, data = Counting(), loader()
    trainer = make_trainer([growing(module)], max_epochs=2)
    trainer.fit(module, data)
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, data)
    assert module.sizes == [8] * 6 + [16] * 9
    assert [sorted(epoch) for epoch in module.epochs] == [list(range(SAMPLES))] * 4


def test_an_endless_run_with_a_schedule_grows() -> None:
    """No schedule is made for a run that has no end of its own."""

    class Ending(Counting):
        def on_train_epoch_end(self) -> None:
            self.trainer.should_stop = self.trainer.current_epoch == 1

    module = Ending(schedule=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12))
    make_trainer([growing(module)], max_epochs=-1).fit(module, loader())
    assert module.sizes == [8] * 6 + [16] * 3


def test_the_loader_is_given_back_as_it_was() -> None:
    """After the fit, and after one that was interrupted, the user's loader has its own batch size."""

    class Interrupts(Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            if trainer.current_epoch == 2:
                raise ValueError("enough")

    for callbacks in ([], [Interrupts()]):
        module, data = Counting(), loader()
        trainer = make_trainer([growing(module), *callbacks], max_epochs=3)
        if callbacks:
            with pytest.raises(ValueError, match="enough"):
                trainer.fit(module, data)
        else:
            trainer.fit(module, data)
        assert 16 in module.sizes
        assert data.batch_sampler.batch_size == 8  # type: ignore[union-attr]
