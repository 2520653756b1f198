"""What we rely on in Lightning's callbacks that average weights."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch.optim.swa_utils import AveragedModel

from lightning_automations.lightning_internals import averaged_models
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader
from tests.requirements import has_weight_averaging


@has_weight_averaging
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
@pytest.mark.parametrize("name", ["WeightAveraging", "EMAWeightAveraging"])
def test_averages_are_found_in_both_packages(package: str, name: str) -> None:
    """None before the fit has begun, then the averaged model with its count, which is a buffer."""
    lightning = import_module(package)
    callback = getattr(import_module(f"{package}.callbacks"), name)()
    trainer = lightning.Trainer(callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False)
    assert averaged_models(trainer) == []
    callback.setup(trainer, import_module(f"{package}.demos.boring_classes").BoringModel(), "fit")
    (average,) = averaged_models(trainer)
    assert type(average) is AveragedModel
    assert int(average.n_averaged) == 0


def test_stochastic_weight_averaging_has_a_model_and_a_count() -> None:
    """The count is the callback's own tensor: what is written to it, the callback reads."""
    callback = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)
    trainer = make_trainer([callback], max_epochs=2)
    before = averaged_models(trainer)
    assert [int(module.n_averaged) for module in before] == [0]
    trainer.fit(Regression(), train_loader(), val_loader())
    model, count = averaged_models(trainer)
    assert isinstance(model, Regression)
    assert count.n_averaged is callback.n_averaged
    assert int(count.n_averaged) == 2


def test_a_namesake_of_ones_own_is_no_average() -> None:
    """Only Lightning's classes and their children have the attribute."""

    class WeightAveraging(torch.nn.Module):
        pass

    trainer = make_trainer()
    trainer.callbacks.append(WeightAveraging())  # type: ignore[attr-defined]
    assert averaged_models(trainer) == []
