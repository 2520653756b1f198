"""What lightning_internals relies on in the training step's closure, the logged results, and an epoch's counts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization as Automatic
from pytorch_lightning.loops.optimization.automatic import _AutomaticOptimization as TwinAutomatic
from torch.utils.data import DataLoader

from lightning_automations.lightning_internals import (
    LoggedResults,
    closure_parts,
    closure_with_parts,
    loader_states,
    recount_epoch,
    renew_iterator,
    replace_closures,
    resumes_begun_epoch,
    starts_epoch_silently,
    step_of_piece,
    training_loaders,
)
from tests.callbacks.helpers import Regression, SaveAt, make_trainer, train_loader, val_loader
from tests.requirements import starts_epoch_without_hook


@pytest.mark.parametrize("automatic", [Automatic, TwinAutomatic])
def test_lightning_makes_a_closure_of_three_parts(automatic: Any) -> None:
    """The names and the order of what is replaced and called, in both packages."""
    assert list(inspect.signature(automatic._make_closure).parameters) == ["self", "kwargs", "optimizer", "batch_idx"]
    assert list(inspect.signature(automatic._make_step_fn).parameters) == ["self", "kwargs"]
    module = inspect.getmodule(automatic)
    assert list(inspect.signature(module.Closure).parameters) == ["step_fn", "backward_fn", "zero_grad_fn"]  # type: ignore[union-attr]
    assert {"closure_loss", "extra"} <= set(inspect.signature(automatic.output_result_cls).parameters)
    source = inspect.getsource(module.Closure.closure)  # type: ignore[union-attr]
    assert source.index("_step_fn") < source.index("_zero_grad_fn()") < source.index("_backward_fn(")


def test_a_replaced_closure_is_called_with_the_arguments_of_the_step() -> None:
    """It sees the batch and the optimizer; in a window that goes on there is no zero_grad; the way back is complete."""
    seen: list[tuple[list[str], str, bool]] = []

    class Replacing(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            def wrap(closure: Any, keywords: Mapping[str, Any], optimizer: Any) -> Any:
                step, backward, zero_grad = closure_parts(closure)
                seen.append((list(keywords), type(optimizer).__name__, zero_grad is not None))
                assert step().closure_loss is not None
                return closure_with_parts(closure, step, backward, zero_grad)

            self.put_back = replace_closures(trainer, wrap)
            self.inner = replace_closures(trainer, lambda closure, *_: closure)

        def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            loop = trainer.fit_loop.epoch_loop.automatic_optimization
            self.inner()
            assert "_make_closure" in vars(loop)
            self.put_back()
            assert "_make_closure" not in vars(loop)

    trainer = make_trainer([Replacing()], max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(Regression(), train_loader(16, 64), val_loader())
    assert seen == [(["batch", "batch_idx"], "SGD", first) for first in (True, False, True, False)]


def test_the_step_of_a_piece_runs_on_the_piece_and_divides_by_the_accumulation() -> None:
    """The loss is that of the piece, divided as Lightning divides that of a batch."""
    results: list[tuple[float, float]] = []

    class Asking(pl.Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            piece = [part[:3] for part in batch]
            output = step_of_piece(trainer, {"batch": batch, "batch_idx": batch_idx}, piece)()
            results.append((float(output.loss), float(module.loss(piece).detach())))

    trainer = make_trainer([Asking()], max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(Regression(), train_loader(16, 32), val_loader())
    assert all(output == pytest.approx(loss / 2) for output, loss in results)


class Logging(Regression):
    """Logs in the step and in a hook, and runs each step twice, the first time in vain."""

    def __init__(self, *, vain: bool) -> None:
        super().__init__()
        self.vain = vain

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.vain:
            kept = LoggedResults(self.trainer)
            self._log(batch, 100.0)
            self.log("only_in_vain", 1.0)
            kept.put_back()
        return self._log(batch, 1.0)

    def _log(self, batch: Any, factor: float) -> Any:
        loss = self.loss(batch) * factor
        self.log("mean", loss.detach(), on_step=True, on_epoch=True)
        self.log("sum", loss.detach(), on_epoch=True, reduce_fx="sum")
        self.log("most", loss.detach(), on_epoch=True, reduce_fx="max")
        return loss


def test_what_a_failed_try_has_logged_is_forgotten() -> None:
    """Also in the first batch of each epoch, where Lightning empties the results at the first log call."""
    plain, twice = (make_trainer([], max_epochs=3) for _ in range(2))
    plain.fit(Logging(vain=False), train_loader(16, 56), val_loader())
    twice.fit(Logging(vain=True), train_loader(16, 56), val_loader())
    assert {name: float(value) for name, value in twice.callback_metrics.items()} == {
        name: float(value) for name, value in plain.callback_metrics.items()
    }


def test_results_of_pieces_are_those_of_the_batch() -> None:
    """Weighted means, sums, extremes; per step and per epoch."""

    class Pieces(Logging):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            logged = LoggedResults(self.trainer)
            samples, total = len(batch[0]), torch.tensor(0.0)
            for place, (start, stop) in enumerate(((0, 3), (3, samples))):
                piece = [part[start:stop] for part in batch]
                logged.begin_piece(piece, first=place == 0)
                total = total + self._log(piece, 1.0) * (stop - start) / samples
                logged.end_piece((stop - start) / samples)
            logged.end_pieces()
            return total

    plain, pieces = (make_trainer([], max_epochs=2) for _ in range(2))
    plain.fit(Logging(vain=False), train_loader(16, 56), val_loader())
    pieces.fit(Pieces(vain=False), train_loader(16, 56), val_loader())
    for name in ("mean_step", "mean_epoch"):
        assert float(pieces.callback_metrics[name]) == pytest.approx(float(plain.callback_metrics[name]), rel=1e-5)
    assert float(pieces.callback_metrics["sum"]) > float(plain.callback_metrics["sum"])


@pytest.mark.parametrize("package", [pl, pytorch_lightning])
def test_an_epoch_is_counted_again(package: Any) -> None:
    """All of Lightning's own counts of an epoch follow the loader's new length."""

    class Module(package.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch[0]).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def on_train_epoch_start(self) -> None:
            trainer = self.trainer
            if trainer.current_epoch == 1:
                training_loaders(trainer)[0].batch_sampler.batch_size = 32
                recount_epoch(trainer, batches=2, validate_every=1)
                renew_iterator(trainer)
                assert trainer.num_training_batches == 2
                assert trainer.val_check_batch == 1
                assert trainer.estimated_stepping_batches == 4

        def on_train_epoch_end(self) -> None:
            assert self.trainer.fit_loop.epoch_loop.batch_progress.current.ready == (4, 2)[self.trainer.current_epoch]
            assert self.trainer.is_last_batch

    trainer = package.Trainer(
        accelerator="cpu",
        max_epochs=2,
        val_check_interval=0.5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), DataLoader(train_loader(16, 64).dataset, batch_size=16))
    assert trainer.global_step == 6


@pytest.mark.parametrize("package", [pl, pytorch_lightning])
def test_an_epoch_that_runs_is_counted_again(package: Any) -> None:
    """Its end, its last batch and its validation come after the new number of batches, and the next epoch is whole."""
    validated: list[tuple[int, int]] = []

    class Module(package.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch[0]).mean()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            validated.append((self.trainer.current_epoch, self.trainer.fit_loop.batch_idx))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if self.trainer.current_epoch == 0 and batch_idx == 3:
                training_loaders(self.trainer)[0].batch_sampler.batch_size = 8  # 16 of 64 samples are trained
                recount_epoch(self.trainer, batches=10, validate_every=10)
            elif self.trainer.current_epoch == 0:
                assert self.trainer.is_last_batch == (batch_idx == 9)

        def on_train_epoch_start(self) -> None:
            if self.trainer.current_epoch == 1:
                recount_epoch(self.trainer, batches=8, validate_every=8)

    trainer = package.Trainer(
        accelerator="cpu",
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), DataLoader(train_loader(4, 64).dataset, batch_size=4), val_loader())
    assert trainer.global_step == 18
    assert validated == [(0, 9), (1, 7)]


def test_a_checkpoint_says_where_the_loaders_were(tmp_path: Any) -> None:
    """The place in the checkpoint where Lightning keeps the states of loaders."""
    saving = SaveAt(3, tmp_path)
    make_trainer([saving], max_epochs=1).fit(Regression(), train_loader(4, 64), val_loader())
    assert loader_states(torch.load(saving.path, weights_only=True)) == [{"given": 3}]


@starts_epoch_without_hook
@pytest.mark.parametrize(("step", "silent"), [(3, False), (4, True)])
def test_an_epoch_that_starts_silently_is_recognized(tmp_path: Any, step: int, silent: bool) -> None:
    """Resumed from after the last batch of an epoch, Lightning begins the next one without its hook."""
    said: list[str] = []

    class Recording(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
            said.append(f"silent: {starts_epoch_silently(trainer)}")

        def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            said.append(f"epoch {trainer.current_epoch}")

    saving = SaveAt(step, tmp_path)
    make_trainer([saving], max_epochs=3).fit(Regression(), train_loader(16, 64), val_loader())
    make_trainer([Recording()], max_epochs=3).fit(
        Regression(), train_loader(16, 64), val_loader(), ckpt_path=saving.path
    )
    assert said[0] == f"silent: {silent}"
    assert said[1:] == (["epoch 2"] if silent else ["epoch 1", "epoch 2"])


@pytest.mark.parametrize("step", [3, 4])
def test_an_epoch_that_was_begun_before_is_told_from_a_new_one(tmp_path: Any, step: int) -> None:
    """Where Lightning calls on_train_epoch_start in a resumed epoch at all, the call is recognized."""
    said: list[tuple[int, bool]] = []

    class Recording(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            said.append((trainer.current_epoch, resumes_begun_epoch(trainer)))

    saving = SaveAt(step, tmp_path)
    make_trainer([saving, Recording()], max_epochs=3).fit(Regression(), train_loader(16, 64), val_loader())
    assert said == [(0, False), (1, False), (2, False)]
    said.clear()
    make_trainer([Recording()], max_epochs=3).fit(
        Regression(), train_loader(16, 64), val_loader(), ckpt_path=saving.path
    )
    assert said[-1] == (2, False)
    assert all(begun == (epoch == 0) for epoch, begun in said)
