"""An out-of-memory error in a training step is survived as if memory had sufficed."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_automations import DynamicBatchSizeOptimizer
from tests.callbacks.helpers import FEATURES, make_trainer, weights
from tests.callbacks.memory_helpers import UNLIMITED, Limited, Outputs, loader, started_at, trained

OUT_OF_MEMORY = "CUDA out of memory"


def same(ours: Any, plain: Any, *, relative: float = 1e-6) -> bool:
    """Whether two lists of tensors are equal up to the rounding of sums in another order."""
    return all(torch.allclose(a, b, rtol=relative, atol=relative) for a, b in zip(ours, plain, strict=True))


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("place", ["forward", "backward"])
@pytest.mark.parametrize("fits", [7, 3, 1])
def test_gradients_outputs_and_logs_are_those_of_the_whole_batch(place: str, accumulation: int, fits: int) -> None:
    """Unequal pieces, weighted by samples: everything that can be seen equals a run with enough memory.

    In double precision, where the rounding of sums in another order does not add up over the steps.
    """
    plain, limited = Limited(), Limited(fits, place=place)
    expected, seen = Outputs(), Outputs()
    options: dict[str, Any] = {"accumulate_grad_batches": accumulation, "precision": "64-true"}
    trained(plain, expected, **options)
    trained(limited, DynamicBatchSizeOptimizer(), seen, **options)

    assert limited.failures > 0
    assert max(limited.sizes[-3:]) <= fits
    assert same(weights(limited), weights(plain))
    assert len(limited.gradients) == len(plain.gradients)
    for ours, theirs in zip(limited.gradients, plain.gradients, strict=True):
        assert [value is None for value in ours] == [value is None for value in theirs]
        assert same([value for value in ours if value is not None], [value for value in theirs if value is not None])
    for ours, theirs in zip(seen.outputs, expected.outputs, strict=True):
        assert set(ours) == set(theirs)
        names = ("loss", "mean", "predictions")
        assert same([ours[name] for name in names], [theirs[name] for name in names])
    for ours, theirs in zip([*seen.logged, *seen.epochs], [*expected.logged, *expected.epochs], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


class Terms(Limited):
    """Returns its terms as DynamicLossScheduling reads them; the last samples of a batch have one of their own."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output = super().training_step(batch, batch_idx)
        terms = {"mean": output["mean"], "with_graph": output["loss"], "lists": {"predictions": output["predictions"]}}
        if len(output["predictions"]) < 3:
            terms["small"] = torch.tensor(2.0)
        return {**output, "loss_terms": terms}


def test_a_mapping_in_the_output_is_taken_by_its_entries() -> None:
    """Terms are those of the whole batch, without a graph; one that some pieces lack is that of the others."""
    plain, limited = Terms(), Terms(3)
    expected, seen = Outputs(), Outputs()
    trained(plain, expected, precision="64-true")
    trained(limited, DynamicBatchSizeOptimizer(), seen, precision="64-true")
    for ours, theirs in zip(seen.outputs, expected.outputs, strict=True):
        terms, whole = ours["loss_terms"], theirs["loss_terms"]
        assert same([terms["mean"], terms["with_graph"]], [whole["mean"], whole["with_graph"]])
        assert same([terms["lists"]["predictions"]], [whole["lists"]["predictions"]])
        assert not terms["with_graph"].requires_grad
    assert seen.outputs[-1]["loss_terms"]["small"] == 2.0


def test_an_error_in_the_middle_of_an_accumulation_window_leaves_its_gradients_alone() -> None:
    """What the window has gathered before the failed backward pass is there once, and only once."""

    class FailsOnce(Limited):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.fits = 4 if batch_idx == 2 and self.failures == 0 else UNLIMITED
            return super().training_step(batch, batch_idx)

    plain, limited = Limited(), FailsOnce(place="backward")
    trained(plain, accumulate_grad_batches=4)
    trained(limited, DynamicBatchSizeOptimizer(), accumulate_grad_batches=4)

    assert limited.failures == 1
    assert same(weights(limited), weights(plain))


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_with_enough_memory_is_bit_identical_to_plain_lightning(accumulation: int, precision: Any) -> None:
    """Being ready for an error changes nothing, accumulated gradients and random numbers included."""
    layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
    plain = Limited(layers=copy.deepcopy(layers), random_noise=True)
    watched = Limited(layers=copy.deepcopy(layers), random_noise=True)
    options = {"accumulate_grad_batches": accumulation, "precision": precision}
    trained(plain, **options)
    trained(watched, DynamicBatchSizeOptimizer(), **options)
    assert all(torch.equal(a, b) for a, b in zip(weights(watched), weights(plain), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(watched.buffers(), plain.buffers(), strict=True))


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("place", ["forward", "backward"])
def test_random_layers_and_buffers_are_those_of_a_run_that_started_at_that_size(place: str, accumulation: int) -> None:
    """Random states and buffers go back before each try, so the failed ones leave no trace: bit-identical."""
    layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
    limited = Limited(3, place=place, layers=copy.deepcopy(layers), random_noise=True)
    started = Limited(layers=copy.deepcopy(layers), random_noise=True)
    trained(limited, DynamicBatchSizeOptimizer(), accumulate_grad_batches=accumulation)
    trained(started, started_at(3), accumulate_grad_batches=accumulation)

    assert limited.failures == 2
    assert limited.sizes[-6:] == started.sizes[-6:] == [2, 3, 2, 3, 2, 2]
    assert all(torch.equal(a, b) for a, b in zip(weights(limited), weights(started), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(limited.buffers(), started.buffers(), strict=True))
    # Each epoch has seven batches of 10, in four pieces, and one of 4, in two.
    assert int(limited.layers[1].num_batches_tracked) == 2 * (7 * 4 + 2)  # type: ignore[index,union-attr]


def test_batch_normalization_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first split of a module with batch normalization says what differs; the next ones are silent."""
    layers = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    trained(Limited(5, layers=layers), DynamicBatchSizeOptimizer())
    assert sum("batch normalization" in record.message for record in caplog.records) == 1


def test_survival_works_in_mixed_precision() -> None:
    """bf16: the run ends, and its losses are those of a run with enough memory within the precision of bf16."""
    plain, limited = Limited(), Limited(3, place="backward")
    expected = trained(plain, precision="bf16-mixed").callback_metrics["epoch"]
    reached = trained(limited, DynamicBatchSizeOptimizer(), precision="bf16-mixed").callback_metrics["epoch"]
    assert limited.failures == 2
    assert float(reached) == pytest.approx(float(expected), rel=0.02)


def test_the_size_that_fits_is_remembered() -> None:
    """One batch pays for the search; those that follow are split at once, without a new error."""
    limited, automation = Limited(3), DynamicBatchSizeOptimizer()
    trained(limited, automation)
    assert limited.failures == 2
    assert [(item.old, item.new, item.step) for item in automation.adjustments] == [(10, 5, 0), (5, 3, 0)]
    assert all(item.reason == "out_of_memory" for item in automation.adjustments)
    assert not automation.retired


def test_survival_goes_on_after_the_automation_has_retired() -> None:
    """max_adjustments: 0 leaves no decision to make; an error is survived all the same."""
    limited, automation = Limited(3), DynamicBatchSizeOptimizer(max_adjustments=0)
    trained(limited, automation)
    assert automation.retired
    assert limited.failures == 2


def test_hooks_after_the_backward_pass_run_once_per_batch() -> None:
    """Pieces are no batches: the hook that others use to look at gradients sees the whole batch's, once."""
    limited = Limited(3)
    trainer = trained(limited, DynamicBatchSizeOptimizer())
    assert len(limited.gradients) == trainer.global_step == 16


def test_extras_of_the_step_are_those_of_the_batch() -> None:
    """One entry per sample: concatenated; a scalar: the weighted mean; anything else: the last piece's."""
    limited, seen = Limited(3), Outputs()
    trained(limited, DynamicBatchSizeOptimizer(), seen)
    first = seen.outputs[0]
    assert first["predictions"].shape == (10, 1)
    assert not first["predictions"].requires_grad
    assert float(first["mean"]) == pytest.approx(float(first["loss"]))
    assert first["name"] == "of 3"


# What a module can say ------------------------------------------------------------------------------------------------


def test_losses_that_are_sums_are_added() -> None:
    """loss_reduction = "sum": the pieces' losses add up as they are."""

    class Summed(Limited):
        loss_reduction = "sum"

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            output = super().training_step(batch, batch_idx)
            return output["loss"] * len(batch[0]) / 10

    plain, limited = Summed(), Summed(3)
    trained(plain)
    trained(limited, DynamicBatchSizeOptimizer())
    assert limited.failures == 2
    assert same(weights(limited), weights(plain))


def test_a_module_weighs_its_pieces() -> None:
    """batch_weight: a mean over tokens is put together from pieces with different numbers of tokens."""

    class Masked(Limited):
        def batch_weight(self, batch: Any) -> float:
            return float((batch[1] > 0).sum())

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            super().training_step(batch, batch_idx)
            inputs, targets = batch
            mask = (targets > 0).float()
            return ((self.layers(inputs) - targets) ** 2 * mask).sum() / mask.sum().clamp(min=1)

    plain, limited = Masked(), Masked(3)
    trained(plain)
    trained(limited, DynamicBatchSizeOptimizer())
    assert limited.failures == 2
    assert same(weights(limited), weights(plain), relative=1e-5)


def test_a_piece_without_loss_counts_as_samples_without_loss() -> None:
    """A training step that returns None for one piece adds no gradient; the others keep their weight."""

    class SkipsThird(Limited):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            output = super().training_step(batch, batch_idx)
            return None if len(batch[0]) == 2 and len(self.sizes) > 3 else output

    limited, seen = SkipsThird(3), Outputs()
    before = weights(limited)
    trained(limited, DynamicBatchSizeOptimizer(), seen, samples=10, max_epochs=1)

    reference = Limited()
    inputs, targets = next(iter(loader(10, 10)))
    counted = [0, 1, 2, 3, 4, 7, 8, 9]
    loss = nn.functional.mse_loss(reference.layers(inputs[counted]), targets[counted]) * 0.8
    gradients = torch.autograd.grad(loss, list(reference.layers.parameters()))
    loss = loss.detach()
    moved = [(a - b) / 0.05 for a, b in zip(before, weights(limited.layers), strict=False)]
    assert float(seen.outputs[0]["loss"]) == pytest.approx(float(loss), rel=1e-6)
    assert same(moved, gradients, relative=1e-5)


def test_a_batch_without_any_loss_changes_nothing() -> None:
    """All pieces return None: the step is skipped as Lightning skips it."""

    class SkipsAll(Limited):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            super().training_step(batch, batch_idx)
            return None

    limited = SkipsAll(3)
    before = weights(limited)
    trained(limited, DynamicBatchSizeOptimizer())
    assert limited.failures == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(limited), before, strict=True))


def ragged(samples: list[Tensor]) -> dict[str, Tensor]:
    """Rows of all samples below each other, and how many each sample has: nothing that says where samples are."""
    counts = [int(sample[0]) % 3 + 1 for sample in samples]
    rows = torch.cat([sample.repeat(count, 1) for sample, count in zip(samples, counts, strict=True)])
    return {"rows": rows, "counts": torch.tensor(counts), "common": torch.zeros(13)}


def split_ragged(batch: dict[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    """Pieces of at most so many samples."""
    rows = batch["rows"].split(batch["counts"].tolist())
    return [
        {"rows": torch.cat(rows[start : start + size]), "counts": batch["counts"][start : start + size]}
        for start in range(0, len(rows), size)
    ]


class Ragged(pl.LightningModule):
    """Holds so many samples; its loss is the mean over samples of sums over their rows."""

    def __init__(self, fits: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1).double()
        self.fits = fits
        self.sizes: list[int] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.sizes.append(len(batch["counts"]))
        if self.sizes[-1] > self.fits:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        sums = torch.stack([rows.sum() for rows in self.layer(batch["rows"]).tanh().split(batch["counts"].tolist())])
        self.log("loss", sums.mean(), batch_size=len(sums), on_step=False, on_epoch=True)
        return sums.mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class RaggedData(pl.LightningDataModule):
    """Batches of seven samples, the last of five."""

    def train_dataloader(self) -> Any:
        samples = [torch.tensor([number, number / 19.0], dtype=torch.float64) for number in range(19)]
        return DataLoader(samples, batch_size=7, collate_fn=ragged)  # type: ignore[arg-type]


@pytest.mark.parametrize("owner", ["module", "data"])
def test_a_batch_of_any_form_is_cut_by_the_users_own_split(owner: str) -> None:
    """Ragged batches with a split_batch of the module or the data module: weights and logs of the whole batch."""
    runs = {}
    for fits in (UNLIMITED, 3):
        module, data = Ragged(fits), RaggedData()
        (module if owner == "module" else data).split_batch = split_ragged  # type: ignore[assignment]
        trainer = make_trainer([DynamicBatchSizeOptimizer()], max_epochs=2)
        trainer.fit(module, datamodule=data)
        numbers = torch.cat([value.flatten() for value in weights(module)]).tolist()
        runs[fits] = [*numbers, float(trainer.callback_metrics["loss"])], module.sizes
    assert runs[3][0] == pytest.approx(runs[UNLIMITED][0], rel=1e-12)
    assert runs[UNLIMITED][1] == [7, 7, 5] * 2
    assert runs[3][1] == [7, 4, *[3, 3, 1, 3, 3, 1, 3, 2] * 2]


# Around it ------------------------------------------------------------------------------------------------------------


def test_what_was_replaced_is_put_back_at_the_end() -> None:
    """After the fit, and after one that failed, Lightning has its own closure and precision again."""
    for module, failing in ((Limited(3), False), (Limited(0), True)):
        trainer = make_trainer([DynamicBatchSizeOptimizer()], max_epochs=1)
        if failing:
            with pytest.raises(torch.OutOfMemoryError):
                trainer.fit(module, loader(10, 20))
        else:
            trainer.fit(module, loader(10, 20))
        assert "_make_closure" not in vars(trainer.fit_loop.epoch_loop.automatic_optimization)
        assert "post_backward" not in vars(trainer.strategy.precision_plugin)


def test_it_works_in_the_other_lightning_package() -> None:
    """A Trainer of pytorch_lightning is served as well."""

    class Twin(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(FEATURES, 1)
            self.sizes: list[int] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if len(batch[0]) > 4:
                raise torch.OutOfMemoryError(OUT_OF_MEMORY)
            self.sizes.append(len(batch[0]))
            loss = nn.functional.mse_loss(self.layer(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module, automation = Twin(), DynamicBatchSizeOptimizer()
    trainer = pytorch_lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[automation],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(10, 20))
    assert module.sizes == [2, 3, 2, 3, 2, 3, 2, 3]
    assert len(automation.adjustments) == 2


def test_the_callback_can_be_copied_and_pickled_after_a_fit() -> None:
    """Nothing of the trainer stays behind in it."""
    automation = DynamicBatchSizeOptimizer()
    trained(Limited(3), automation, max_epochs=1)
    for copied in (copy.deepcopy(automation), pickle.loads(pickle.dumps(automation))):
        assert copied.adjustments == automation.adjustments
        assert copied.brain.state.micro_batch == 3


def test_a_preparation_that_fails_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours before a step retires the automation; training goes on as in plain Lightning."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    calls: list[int] = []

    def broken(*_: Any) -> Any:
        calls.append(1)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("lightning_automations.callbacks.survival.RandomStates", broken)
    plain, module, automation = Limited(), Limited(), DynamicBatchSizeOptimizer()
    trained(plain)
    trained(module, automation)
    assert automation.retired
    assert len(calls) == 1
    assert all(torch.equal(a, b) for a, b in zip(weights(module), weights(plain), strict=True))
