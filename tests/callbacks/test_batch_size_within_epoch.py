"""The loader's batch grows in the middle of a long epoch: what the matrix of growth does not show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar, TQDMProgressBar
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from lightning_automations import AdaptiveGradientClipping
from lightning_automations.callbacks.growing_batches import GrowingBatches
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.helpers import ResumableLoader, SaveAt, make_trainer, weights
from tests.callbacks.test_batch_size_growth import VALIDATION, Counting, Numbers, Validated, growing
from tests.requirements import resumes_after_last_batch

SAMPLES = 160
GROWN = 0.01 * math.sqrt(2)
"""The rate of twice the batch."""


class Rates(Callback):
    """The batch and the rate of each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
        self.seen.append((module.sizes[-1], optimizer.param_groups[0]["lr"]))


def numbers(**options: Any) -> DataLoader[Any]:
    """Batches of 2."""
    return DataLoader(Numbers(SAMPLES), **{"batch_size": 2, **options})


def test_it_grows_as_long_as_the_rest_is_long() -> None:
    """After three observations each, up to sizes that make the rest, and then whole epochs, short."""
    module = Validated()
    automation = growing(module, max_batch_size=64)
    make_trainer([automation], max_epochs=2, num_sanity_val_steps=0).fit(module, numbers(), VALIDATION)
    changes = [(item.old, item.new, item.step, item.epoch) for item in automation.adjustments]
    assert changes == [(2, 4, 3, 0), (4, 8, 6, 0), (8, 16, 9, 0)]
    assert module.sizes == [2] * 3 + [4] * 3 + [8] * 3 + [16] * 7 + [6] + [16] * 10
    assert (module.totals, module.finals) == ([80, 10], [17, 10])
    assert module.epochs == [list(range(SAMPLES))] * 2
    assert module.validations == [(0, SAMPLES), (1, SAMPLES)]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_rate_changes_with_the_first_larger_batch(workers: int) -> None:
    """Batches that workers have drawn already keep their size and their rate; then the others are told."""
    heard: list[Event] = []

    class Listening(AdaptiveGradientClipping):
        def hear(self, trainer: pl.Trainer, event: Event) -> None:
            heard.append(event)

    module, rates = Counting(), Rates()
    callbacks = [growing(module, max_batch_size=4), Listening(), rates]
    make_trainer(callbacks, max_epochs=2).fit(module, numbers(num_workers=workers))
    before = 3 if workers == 0 else 7
    assert [size for size, _ in rates.seen[: before + 2]] == [2] * before + [4] * 2
    assert [rate for _, rate in rates.seen] == pytest.approx([0.01] * before + [GROWN] * (len(rates.seen) - before))
    assert heard == [Event(kind=EventKind.BATCH_CHANGED, step=before, ratio=2.0)]


def test_the_last_adjustment_of_the_budget_changes_the_rate_too() -> None:
    """The automation retires with the decision; the batch and the rate follow when the drawn ones are trained."""
    module, rates = Counting(), Rates()
    automation = growing(module, max_batch_size=64, max_adjustments=1)
    make_trainer([automation, rates], max_epochs=2).fit(module, numbers(num_workers=2))
    assert automation.retired
    assert {size for size, _ in rates.seen} == {2, 4}
    assert [rate for _, rate in rates.seen] == pytest.approx([0.01] * 7 + [GROWN] * (len(rates.seen) - 7))


def test_a_short_rest_waits_for_the_next_epoch() -> None:
    """Of 24 steps at most 14 are left once the batch may be judged: with ten decisions of two steps each, too few."""
    module = Counting()
    automation = growing(module, max_batch_size=4, adjustment_frequency=2)
    make_trainer([automation], max_epochs=2).fit(module, DataLoader(Numbers(48), batch_size=2))
    assert [(item.old, item.new, item.step) for item in automation.adjustments] == [(2, 4, 24)]


def test_a_run_that_ends_before_its_epoch_is_as_long_as_what_is_left_of_it() -> None:
    """Of 80 steps max_steps leaves 9 once the batch may be judged: a growth at the run's last steps helps no one."""

    class Broken(Counting):
        def on_train_epoch_end(self) -> None:
            """The epoch ends before its last batch."""

    module = Broken()
    automation = growing(module, max_batch_size=4)
    make_trainer([automation], max_steps=12).fit(module, numbers())
    assert automation.adjustments == []
    assert module.sizes == [2] * 12


@pytest.mark.parametrize("bar", [TQDMProgressBar, RichProgressBar])
def test_progress_bars_show_the_new_number_of_batches(bar: Any) -> None:
    """From the decision on, and that of a whole epoch in the next one."""

    class Totals(bar):  # type: ignore[misc,valid-type]
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            super().on_train_batch_end(trainer, *args)
            if bar is TQDMProgressBar:
                shown.append((self.train_progress_bar.n, float(self.train_progress_bar.total)))
            else:
                task = self.progress.tasks[self.train_progress_bar_id]
                shown.append((task.completed, float(task.total)))

    shown: list[tuple[float, float]] = []
    module = Counting()
    callbacks = [Totals(), growing(module, max_batch_size=4)]
    make_trainer(callbacks, max_epochs=2, enable_progress_bar=True).fit(module, numbers())
    # 3 batches of 2 and 39 of 4, the last of 2; the bar of before the automation reads the change a batch later
    totals = [80.0] * 3 + [42.0] * 39 + [40.0] * 40
    assert [total for _, total in shown] == totals
    assert [number for number, _ in shown] == [*range(1, 43), *range(1, 41)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"val_check_interval": 0.5}, "val_check_interval"),
        ({"limit_train_batches": 70}, "limit_train_batches"),
        ({"own": True}, "a batch sampler of its own"),
        ({"in_order": False}, "out of their order"),
    ],
)
def test_where_it_cannot_it_waits_for_the_epochs_end_and_says_so(
    options: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once; growth between epochs goes on."""

    class Own(BatchSampler):
        pass

    caplog.set_level("INFO")
    module, others = Validated(), dict(options)
    data = numbers(in_order=others.pop("in_order", True))
    if others.pop("own", False):
        own = Own(SequentialSampler(Numbers(SAMPLES)), batch_size=2, drop_last=False)
        data = DataLoader(Numbers(SAMPLES), batch_sampler=own)
    automation = growing(module, max_batch_size=4)
    make_trainer([automation], max_epochs=2, num_sanity_val_steps=0, **others).fit(module, data, VALIDATION)
    assert [item.epoch for item in automation.adjustments] == [1]
    told = [item.message for item in caplog.records if "between epochs only" in item.message]
    assert len(told) == 1
    assert why in told[0]


def test_validations_by_a_fraction_of_one_or_of_no_kind_are_no_obstacle() -> None:
    """A run without validation may have any interval."""
    module = Counting()
    automation = growing(module, max_batch_size=4)
    make_trainer([automation], max_epochs=1, val_check_interval=0.5).fit(module, numbers())
    assert [item.step for item in automation.adjustments] == [3]


def test_the_loader_is_given_back_as_it_was() -> None:
    """After the fit, and after one that ended in an error."""

    class Fails(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 20:
                raise ValueError("enough")

    for callbacks in ([], [Fails()]):
        module, data = Counting(), numbers()
        trainer = make_trainer([growing(module, max_batch_size=4), *callbacks], max_epochs=1)
        if callbacks:
            with pytest.raises(ValueError, match="enough"):
                trainer.fit(module, data)
        else:
            trainer.fit(module, data)
        assert 4 in module.sizes
        assert type(data.batch_sampler) is BatchSampler
        assert data.batch_sampler.batch_size == 2


@pytest.mark.parametrize(("largest", "grows"), [(2, False), (4, True)])
def test_a_loader_that_cannot_grow_is_left_to_torch(largest: int, grows: bool) -> None:
    """At max_batch_size its sampler and its iterator stay as they are."""
    kinds: set[Any] = set()

    class Looks(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            kinds.add(type(data.batch_sampler))

    module, data = Counting(), numbers()
    make_trainer([growing(module, max_batch_size=largest), Looks()], max_epochs=1).fit(module, data)
    assert kinds == {GrowingBatches if grows else BatchSampler}


def test_a_loader_that_is_made_anew_grows_within_its_epoch_too() -> None:
    """reload_dataloaders_every_n_epochs: the size that was reached from its start, and every sample once."""

    class Reloading(Counting):
        def train_dataloader(self) -> DataLoader[Any]:
            return numbers()

    module = Reloading()
    automation = growing(module, max_batch_size=8, adjustment_frequency=4)
    make_trainer([automation], max_epochs=3, reload_dataloaders_every_n_epochs=1).fit(module)
    changes = [(item.old, item.new, item.epoch) for item in automation.adjustments]
    assert changes == [(2, 4, 0), (4, 8, 1)]
    assert [sorted(epoch) for epoch in module.epochs] == [list(range(SAMPLES))] * 3


def test_an_automation_that_fails_for_good_leaves_the_epochs_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retired and then broken it is taken away; the loader keeps its size, for Lightning has counted with it."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    module = Counting()
    automation = growing(module, max_batch_size=64, max_adjustments=1)

    def breaks(trainer: pl.Trainer, _: Any) -> None:
        if trainer.global_step == 9:
            raise ZeroDivisionError("broken on purpose")

    monkeypatch.setattr(automation, "after_batch_retired", breaks)
    make_trainer([automation], max_epochs=2).fit(module, numbers())
    assert automation.retired
    assert not automation.awake
    assert module.epochs == [list(range(SAMPLES))] * 2
    assert module.sizes == 2 * ([2] * 3 + [4] * 38 + [2])


# Resume ---------------------------------------------------------------------------------------------------------------


def resumed(path: str, data: DataLoader[Any], **settings: Any) -> tuple[Validated, Any, Any]:
    """The rest of a run of two epochs."""
    module = Validated()
    module.epochs.append([])
    automation = growing(module, **{"max_batch_size": 16, **settings})
    trainer = make_trainer([automation], max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(module, data, VALIDATION, ckpt_path=path)
    return module, automation, trainer


@pytest.mark.parametrize(
    ("step", "workers"),
    [(2, 0), (4, 0), (9, 0), pytest.param(17, 0, marks=resumes_after_last_batch), (20, 0), (4, 2), (9, 2)],
)
def test_a_resumed_run_goes_on_as_if_it_was_never_interrupted(step: int, workers: int, tmp_path: Path) -> None:
    """Before a growth, after it, with batches of the old size still to come, at the epoch's end and after it."""

    def data() -> ResumableLoader:
        return ResumableLoader(Numbers(SAMPLES), batch_size=2, num_workers=workers)

    whole, saving = Counting(), SaveAt(step, tmp_path)
    automation = growing(whole, max_batch_size=16)
    trainer = make_trainer([automation, saving], max_epochs=2)
    trainer.fit(whole, data())
    module, again, other = resumed(saving.path, data())
    assert module.sizes == whole.sizes[step:]
    assert again.adjustments == automation.adjustments
    assert all(torch.equal(a, b) for a, b in zip(weights(module), weights(whole), strict=True))
    rates = [item.optimizers[0].param_groups[0]["lr"] for item in (trainer, other)]
    assert rates[0] == pytest.approx(rates[1])


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")  # on purpose
def test_an_ordinary_loader_begins_anew_with_the_size_of_its_place(tmp_path: Path) -> None:
    """As in plain Lightning the first samples come again; sizes and the epoch's end are those of the other run."""
    whole, saving = Counting(), SaveAt(8, tmp_path)
    automation = growing(whole, max_batch_size=16)
    make_trainer([automation, saving], max_epochs=2).fit(whole, numbers())
    module, again, _ = resumed(saving.path, numbers())
    assert module.sizes == [16 if size == 6 else size for size in whole.sizes[8:]]  # no rest: it began with sample 0
    assert module.epochs[0][0] == 0
    assert again.adjustments == automation.adjustments


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")  # on purpose
def test_where_growth_is_no_longer_wanted_the_epoch_ends_at_its_place(tmp_path: Path) -> None:
    """With another effective_batch the size that was reached is kept, and does not grow further."""
    whole, saving = Counting(), SaveAt(8, tmp_path)
    make_trainer([growing(whole, max_batch_size=16), saving], max_epochs=1).fit(whole, numbers())
    module, again, _ = resumed(saving.path, numbers(), effective_batch="keep", max_batch_size=64)
    assert again.adjustments[-1].step < 8  # those of the run before
    assert module.sizes == [8] * (24 - 8) + [8] * 20  # 3 batches of 2, 3 of 4, and 18 of 8
    assert [epoch for epoch, _ in module.validations] == [0, 1]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")  # on purpose
def test_a_loader_with_larger_batches_than_were_reached_counts_its_own(tmp_path: Path) -> None:
    """Its epoch has ten batches, of which eight were trained, as plain Lightning counts, and is validated."""
    whole, saving = Counting(), SaveAt(8, tmp_path)
    make_trainer([growing(whole, max_batch_size=8), saving], max_epochs=1).fit(whole, numbers())
    module, _, trainer = resumed(saving.path, numbers(batch_size=16))
    assert module.sizes == [16] * (2 + 10)
    assert trainer.num_training_batches == 10
    assert [epoch for epoch, _ in module.validations] == [0, 1]
