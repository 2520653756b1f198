"""Errors that no pieces can help end the run, and say where and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_automations import DynamicBatchSizeOptimizer
from lightning_automations.core.recorded import WOULD_RUN_IN_PIECES
from tests.callbacks.helpers import Regression, journal_entries, make_trainer, val_loader
from tests.callbacks.memory_helpers import Limited, loader, trained

OUT_OF_MEMORY = "CUDA out of memory"


def fit_fails(module: pl.LightningModule, *callbacks: Callback, expected: type[BaseException], **options: Any) -> Any:
    """The error with which a fit ends."""
    validation = [val_loader()] if isinstance(module, ValidationRunsOut) else []
    training = None if isinstance(module, LoaderRunsOut) else loader(10, 40)
    with pytest.raises(expected) as caught:
        make_trainer(callbacks, max_epochs=1, **options).fit(module, training, *validation)
    return caught.value


def test_other_errors_pass_untouched() -> None:
    """An error that does not speak of memory is not retried."""

    class Faulty(Limited):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            super().training_step(batch, batch_idx)
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    faulty, automation = Faulty(), DynamicBatchSizeOptimizer()
    error = fit_fails(faulty, automation, expected=RuntimeError)
    assert str(error) == "mat1 and mat2 shapes cannot be multiplied"
    assert faulty.sizes == [10]
    assert automation.adjustments == []


class StepRunsOut(torch.optim.SGD):
    """Its closure succeeds, its own work does not."""

    def step(self, closure: Any = None) -> Any:
        closure()
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)


class HookRunsOut(Callback):
    """A callback of the user that needs too much memory in one hook."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._fail)

    def _fail(self, *_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)


def run_out(*_: Any) -> None:
    """The same as a function."""
    raise torch.OutOfMemoryError(OUT_OF_MEMORY)


class OptimizerRunsOut(Limited):
    """Its optimizer runs out of memory in its own work."""

    def configure_optimizers(self) -> Any:
        return StepRunsOut(self.parameters(), lr=0.1)


class ValidationRunsOut(Limited):
    """Its validation does not fit; the error arises in its forward."""

    def forward(self, batch: Any) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch)


class CoupledValidation(ValidationRunsOut):
    """The same, and its batches must not be split."""

    couples_samples = True


class HookOfModulesStep(Limited):
    """One of its hooks within the training step needs too much memory."""

    def on_before_backward(self, loss: Any) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)


class AsksCallback(Limited):
    """Its training step calls a callback, where memory runs out: that is the step's."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if len(batch[0]) > 4:
            HookRunsOut("on_fit_end").on_fit_end(self.trainer, self)
        return super().training_step(batch, batch_idx)


class HookOfModule(Limited):
    """One of its hooks needs too much memory."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)


class LoaderRunsOut(Limited):
    """Its training data do not fit."""

    def train_dataloader(self) -> Any:
        return DataLoader(Fails(), batch_size=10)


class Fails(Dataset[Any]):
    """Samples of any size are too large."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)


class OwnName(Limited):
    """Whoever wrote it calls the object as they like."""

    def training_step(this, batch: Any, batch_idx: int) -> Any:  # noqa: N805
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)


def test_a_step_is_one_whatever_its_object_is_called() -> None:
    """A dry run lets the error pass, and blames no optimizer for it."""
    error = fit_fails(OwnName(), DynamicBatchSizeOptimizer(dry_run=True), expected=torch.OutOfMemoryError)
    assert str(error) == OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("module", "callbacks", "steps", "place"),
    [
        (OptimizerRunsOut, [], [10], "the step of the optimizer StepRunsOut"),
        (CoupledValidation, [], [10] * 4, "the module's validation_step, which cannot be split"),
        (LoaderRunsOut, [], [], "the data loader, before the batch could be split"),
        (Limited, [HookRunsOut("on_after_backward")], [10], "the callback HookRunsOut"),
        (Limited, [HookRunsOut("on_train_batch_start")], [], "the callback HookRunsOut"),
        (Limited, [HookRunsOut("on_before_optimizer_step")], [10], "the callback HookRunsOut"),
        (Limited, [HookRunsOut("on_before_backward")], [10], "the callback HookRunsOut"),
        (Limited, [HookRunsOut("on_before_zero_grad")], [10], "the callback HookRunsOut"),
        (Limited, [LambdaCallback(on_before_backward=run_out)], [10], "on_before_backward of a callback"),
        (HookOfModule, [], [10], "the module's on_before_optimizer_step, which is not run again"),
        (HookOfModulesStep, [], [10], "the module's on_before_backward, which is not run again"),
    ],
)
def test_errors_elsewhere_end_the_run_and_name_the_place(
    module: Any, callbacks: Any, steps: list[int], place: str
) -> None:
    """Optimizer, validation, loader, callbacks and hooks: no blind retry, and the message says where it was."""
    faulty, automation = module(), DynamicBatchSizeOptimizer()
    error = fit_fails(faulty, automation, *callbacks, expected=torch.OutOfMemoryError, num_sanity_val_steps=0)
    assert str(error).startswith(f"{OUT_OF_MEMORY}\nMemory ran out in {place}")
    assert str(error).count("\n") == 1
    assert faulty.sizes == steps
    assert automation.adjustments == []


def test_what_a_training_step_calls_is_the_steps() -> None:
    """A callback that runs out of memory inside of it is survived as the step is."""
    automation = DynamicBatchSizeOptimizer()
    trained(AsksCallback(), automation)
    assert [item.new for item in automation.adjustments] == [5, 3]


def test_a_dry_run_says_nothing_of_errors_that_would_not_be_survived(tmp_path: Path) -> None:
    """A callback's error would end a run with the automation, too."""
    automation, logger = DynamicBatchSizeOptimizer(dry_run=True), CSVLogger(tmp_path)
    hook = HookRunsOut("on_before_backward")
    error = fit_fails(Limited(), automation, hook, expected=torch.OutOfMemoryError, logger=logger)
    assert "Memory ran out in the callback HookRunsOut" in str(error)
    assert WOULD_RUN_IN_PIECES not in (Path(logger.log_dir) / "automations.jsonl").read_text()


def test_an_error_in_the_sanity_check_is_named() -> None:
    """Before training has begun, too."""
    error = fit_fails(ValidationRunsOut(), DynamicBatchSizeOptimizer(), expected=torch.OutOfMemoryError)
    assert "Memory ran out in the module's validation_step of the sanity check" in str(error)


def test_switched_off_it_adds_nothing_to_an_error() -> None:
    """``enabled: false`` is plain Lightning, its messages included."""
    error = fit_fails(ValidationRunsOut(), DynamicBatchSizeOptimizer(enabled=False), expected=torch.OutOfMemoryError)
    assert str(error) == OUT_OF_MEMORY


def test_below_the_smallest_size_the_first_error_says_what_was_tried() -> None:
    """The original error comes back, with what was tried in its message."""
    automation = DynamicBatchSizeOptimizer(min_batch_size=3)
    error = fit_fails(Limited(2), automation, expected=torch.OutOfMemoryError)
    assert str(error) == (
        "CUDA out of memory. Tried to allocate 2.00 GiB\nThe batch of 10 samples was also tried in pieces, down to 3."
    )
    assert [item.new for item in automation.adjustments] == [5, 4, 3]


class Normalizes(Limited):
    """Refuses a single sample, as batch normalization of one value per channel does."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output = super().training_step(batch, batch_idx)
        if len(batch[0]) == 1:
            raise ValueError("Expected more than 1 value per channel when training")
        return output


def test_a_piece_of_one_sample_is_the_last_resort() -> None:
    """7 samples of which 3 fit become 2 + 2 + 3."""
    module, automation = Normalizes(3), DynamicBatchSizeOptimizer()
    trained(module, automation, batch_size=7, samples=28)
    assert module.sizes[:6] == [7, 3, 4, 2, 2, 3]
    assert [item.new for item in automation.adjustments] == [4, 3]


def test_an_error_of_another_kind_in_a_piece_does_not_hide_what_came_first() -> None:
    """7 samples of which 2 fit leave one alone: the out-of-memory error ends the run, and the piece's is its cause."""
    automation = DynamicBatchSizeOptimizer()
    with pytest.raises(torch.OutOfMemoryError) as caught:
        trained(Normalizes(2), automation, batch_size=7, samples=28)
    assert str(caught.value).endswith(
        "\nThe batch of 7 samples was also tried in pieces of at most 2, where something else failed. "
        "ValueError: Expected more than 1 value per channel when training"
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_in_a_later_batchs_piece_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Memory did not run out in that batch: the error passes, and the log says that it was cut."""

    class FailsLater(Limited):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                raise KeyError("label")
            return super().training_step(batch, batch_idx)

    error = fit_fails(FailsLater(5), DynamicBatchSizeOptimizer(), expected=KeyError)
    assert error.args == ("label",)
    assert "KeyError arose in a batch of 10 samples that is run in pieces of at most 5" in caplog.text


def test_a_batch_that_cannot_be_split_says_so() -> None:
    """Tensors that disagree on the number of samples: the error says why nothing could be done."""

    class Uneven(Limited):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return [*batch, torch.zeros(13)]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    error = fit_fails(Uneven(), DynamicBatchSizeOptimizer(), expected=torch.OutOfMemoryError)
    assert str(error).startswith(f"{OUT_OF_MEMORY}\nThis batch cannot be split")


class Coupled(Limited):
    """Its loss depends on which samples are together."""

    couples_samples = True


class CoupledForward(ValidationRunsOut):
    """The same with an error in its forward."""

    couples_samples = True

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self(batch)


class Manual(Limited):
    """Optimizes by itself."""

    def __init__(self) -> None:
        super().__init__(3)
        self.automatic_optimization = False


class TakesIterator(Regression):
    """Takes its batches itself."""

    validation_step = pl.LightningModule.validation_step

    def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        next(dataloader_iter)
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor", "ignore:Found `dataloader_iter`")
@pytest.mark.parametrize(
    ("module", "why"),
    [
        (lambda: Coupled(3), "couples the samples"),
        (CoupledForward, "couples the samples"),
        (Manual, "optimizes manually"),
        (TakesIterator, "dataloader_iter"),
    ],
)
def test_where_pieces_are_impossible_it_says_so_and_stays_out(
    module: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error passes as in plain Lightning, and the log has said at the start that it would."""
    caplog.set_level("INFO")
    automation = DynamicBatchSizeOptimizer()
    error = fit_fails(module(), automation, expected=torch.OutOfMemoryError, num_sanity_val_steps=0)
    assert str(error).startswith(OUT_OF_MEMORY)
    assert "\n" not in str(error)
    assert any("stays out" in record.message and why in record.message for record in caplog.records)


def test_a_dry_run_lets_the_error_pass_and_says_what_would_have_been(tmp_path: Path) -> None:
    """Nothing is changed in a dry run, and the journal tells that the run would have gone on."""
    automation = DynamicBatchSizeOptimizer(dry_run=True)
    logger = CSVLogger(tmp_path)
    error = fit_fails(Limited(3), automation, expected=torch.OutOfMemoryError, logger=logger)
    assert str(error) == "CUDA out of memory. Tried to allocate 2.00 GiB"
    notes = [entry for entry in journal_entries(Path(logger.log_dir) / "automations.jsonl") if entry["event"] == "note"]
    assert "would have run the batch again in pieces" in notes[-1]["message"]
