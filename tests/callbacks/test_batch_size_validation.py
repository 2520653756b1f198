"""A validation batch that memory does not hold is run in pieces, and the metrics are those of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanSquaredError
from torchmetrics.classification import BinaryAUROC

from lightning_automations import DynamicBatchSizeOptimizer
from lightning_automations.core.decision import Reason
from tests.callbacks.helpers import Regression, journal_entries, make_trainer, regression_data, train_loader

UNLIMITED = 10**9


class Validated(Regression):
    """Its validation step holds only so many samples; it logs before memory runs out, and counts its tries."""

    def __init__(self, fits: int = UNLIMITED, *, sanity_fits: int | None = None) -> None:
        super().__init__()
        self.fits = fits
        self.sanity_fits = fits if sanity_fits is None else sanity_fits
        self.error, self.area = MeanSquaredError(), BinaryAUROC()
        self.drop = nn.Dropout(0.5)
        self.sizes: list[int] = []

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> Any:
        inputs, targets = batch
        predictions = self.layer(inputs)
        loss = nn.functional.mse_loss(predictions, targets)
        self.error.update(predictions, targets)
        self.area.update(predictions.squeeze(1).sigmoid(), (targets.squeeze(1) > 0).int())
        self.log("val/loss", loss, on_step=True, on_epoch=True)
        self.log("val/samples", float(len(inputs)), reduce_fx="sum", on_epoch=True)
        self.log("val/largest", inputs.max(), reduce_fx="max", on_epoch=True)
        self.log("val/error", self.error, on_epoch=True)
        self.log("val/area", self.area, on_epoch=True)
        self.sizes.append(len(inputs))
        if len(inputs) > (self.sanity_fits if self.trainer.sanity_checking else self.fits):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return {"loss": loss, "predictions": predictions}


class Watch(Callback):
    """What was logged by each validation, and what other callbacks saw of its batches."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.outputs: list[Any] = []

    def on_validation_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.outputs.append(outputs)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            names = [name for name in trainer.callback_metrics if name.startswith("val/")]
            self.logged.append({name: float(trainer.callback_metrics[name]) for name in names})


def _fit(module: pl.LightningModule, *callbacks: Any, loaders: int = 1, **options: Any) -> pl.Trainer:
    validation = [DataLoader(regression_data(74, seed=index), batch_size=20) for index in range(loaders)]
    trainer = make_trainer(callbacks, **{"max_epochs": 2, "log_every_n_steps": 1, **options})
    trainer.fit(module, train_loader(), validation if loaders > 1 else validation[0])
    return trainer


@pytest.mark.parametrize("loaders", [1, 2])
@pytest.mark.parametrize("fits", [12, 7, 1])
def test_what_is_logged_is_that_of_whole_batches(fits: int, loaders: int) -> None:
    """Means, sums, maxima and metrics, of uneven pieces and a smaller last batch, in one and in two loaders."""
    plain, limited, expected, seen = Validated(), Validated(fits), Watch(), Watch()
    _fit(plain, expected, loaders=loaders)
    automation = DynamicBatchSizeOptimizer()
    _fit(limited, automation, seen, loaders=loaders)
    assert max(limited.sizes[-5:]) <= fits
    assert len(seen.logged) == 2
    for ours, theirs in zip(seen.logged, expected.logged, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert len(seen.outputs) == len(expected.outputs)
    for ours, theirs in zip(seen.outputs, expected.outputs, strict=True):
        assert torch.allclose(ours["predictions"], theirs["predictions"], rtol=1e-4, atol=1e-5)
        assert torch.allclose(ours["loss"], theirs["loss"], rtol=1e-4)


def test_the_size_that_fits_is_kept_and_told(tmp_path: Path) -> None:
    """After the first batch none runs out of memory again; the journal has both steps down."""
    module = Validated(6, sanity_fits=UNLIMITED)
    automation = DynamicBatchSizeOptimizer(journal=str(tmp_path / "journal.jsonl"))
    _fit(module, automation)
    changes = [item for item in automation.adjustments if item.parameter == "validation_micro_batch_size"]
    assert [(item.old, item.new, item.reason) for item in changes] == [
        (20, 10, Reason.OUT_OF_MEMORY),
        (10, 5, Reason.OUT_OF_MEMORY),
    ]
    assert sum(size > 6 for size in module.sizes[2:]) == 2
    told = [entry for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "adjustment"]
    assert [entry["new"] for entry in told] == [10, 5]


def test_the_sanity_check_is_run_in_pieces_too(caplog: pytest.LogCaptureFixture) -> None:
    """Before training has begun; the size is kept for the validations of the fit."""
    module = Validated(6)
    with caplog.at_level("INFO", logger="lightning_automations"):
        _fit(module, DynamicBatchSizeOptimizer())
    assert sum("the sanity check runs in pieces of" in message for message in caplog.messages) == 2
    assert sum(size > 6 for size in module.sizes) == 2


@pytest.mark.parametrize(
    ("attributes", "settings", "words"),
    [
        ({"couples_samples": True}, {}, "which cannot be split"),
        ({}, {"min_batch_size": 8}, "was also tried in pieces, down to 7 (min_batch_size 8)"),
        ({}, {"enabled": False}, None),
        ({}, {"dry_run": True}, "which cannot be split"),
    ],
)
def test_where_pieces_do_not_help_the_error_says_so(
    attributes: dict[str, Any], settings: dict[str, Any], words: str | None
) -> None:
    """A module whose samples belong together, the fewest samples, and an automation that is not to act."""
    module = Validated(6, sanity_fits=UNLIMITED)
    vars(module).update(attributes)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        _fit(module, DynamicBatchSizeOptimizer(**settings))
    assert str(caught.value).startswith("CUDA out of memory")
    assert words is None or words in str(caught.value)
    assert words is not None or "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size` from an ambiguous collection:UserWarning")
def test_a_batch_of_no_known_form_cannot_be_split() -> None:
    """Its samples cannot be told: the error names the place."""

    class Formless(Validated):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return super().validation_step(batch["pair"], batch_idx, dataloader_idx)

    def collate(samples: Any) -> dict[str, Any]:
        return {"pair": torch.utils.data.default_collate(samples), "graph": object()}

    data = DataLoader(regression_data(20), batch_size=10, collate_fn=collate)
    trainer = make_trainer([DynamicBatchSizeOptimizer()], max_epochs=1, num_sanity_val_steps=0)
    with pytest.raises(
        torch.OutOfMemoryError, match=r"module's validation_step. This batch cannot be split: .* A split_batch"
    ):
        trainer.fit(Formless(5), train_loader(), data)


def test_several_loaders_may_be_a_mapping() -> None:
    """As a CombinedLoader hands them on one after the other."""
    module = Validated(6)
    loaders = {name: DataLoader(regression_data(20), batch_size=10) for name in ("a", "b")}
    trainer = make_trainer([DynamicBatchSizeOptimizer()], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(module, train_loader(), loaders)
    assert sorted(set(module.sizes)) == [5, 10]


def test_another_error_passes_and_the_strategy_gets_its_step_back() -> None:
    """Nothing is left behind, whatever ended the fit."""

    class Wrong(Validated):
        def validation_step(self, *_: Any) -> Any:
            raise ZeroDivisionError("a fault of the module")

    trainer = make_trainer([DynamicBatchSizeOptimizer()], max_epochs=1)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(Wrong(), train_loader(), DataLoader(regression_data(8), batch_size=4))
    assert "validation_step" not in vars(trainer.strategy)
    module = Validated()
    assert "validation_step" not in vars(_fit(module, DynamicBatchSizeOptimizer()).strategy)


@pytest.mark.parametrize("kind", ["scalar", "none", "list"])
def test_whatever_a_step_returns_is_handed_on(kind: str) -> None:
    """A scalar is averaged, what cannot be put together is the last piece's."""

    class Returns(Validated):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            found = super().validation_step(batch, batch_idx, dataloader_idx)["loss"]
            return {"scalar": found, "none": None, "list": [len(batch[0])]}[kind]

    whole, pieces = Watch(), Watch()
    _fit(Returns(), whole)
    _fit(Returns(10), DynamicBatchSizeOptimizer(), pieces)
    if kind == "scalar":
        assert torch.allclose(torch.stack(pieces.outputs), torch.stack(whole.outputs))
    else:
        assert pieces.outputs[0] == (None if kind == "none" else [10])
