"""Lightning's Tuner beside the automations: it is left alone, and what it finds is where they start.

Nothing is handed over: ``lr_find`` writes the rate into the module and ``scale_batch_size`` the batch size, and the
automations read both from optimizer and loader when the next fit starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.tuner import Tuner
from pytorch_lightning.tuner import Tuner as PytorchLightningTuner

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.joining import JoinAtSetup
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader, weights
from tests.registry import ROWS
from tests.requirements import finds_rate_for_same_fit


class Tunable(Regression):
    """A rate and a batch size that the Tuner can set."""

    def __init__(self, rate: float = 0.0001, batch_size: int = 4) -> None:
        super().__init__(rate)
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return train_loader(self.batch_size)

    def val_dataloader(self) -> Any:
        return val_loader()


def automations(**settings: Any) -> list[AutomationCallback]:
    """All four, with settings under which they act in a short run."""
    return [row.make(**settings) for row in ROWS]


def states(callbacks: list[AutomationCallback]) -> list[dict[str, Any]]:
    """What their checkpoints would hold."""
    return [callback.state_dict() for callback in callbacks]


def same_run(one: Any, other: Any) -> bool:
    """Whether two trainers did the same: steps, adjustments, rates and weights, bit for bit."""
    ends = []
    for trainer in (one, other):
        made = [item.adjustments for item in trainer.callbacks if isinstance(item, AutomationCallback)]
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        ends.append((trainer.global_step, made, rates))
    pairs = zip(weights(one.lightning_module), weights(other.lightning_module), strict=True)
    return any(ends[0][1]) and ends[0] == ends[1] and all(torch.equal(*pair) for pair in pairs)


def tune(trainer: Any, module: Tunable, mode: str = "power") -> tuple[float, int]:
    """The rate and the batch size that the Tuner finds; the module has them from then on."""
    finder = Tuner(trainer).lr_find(module, num_training=20, attr_name="rate")
    size = Tuner(trainer).scale_batch_size(module, mode=mode, max_trials=2, steps_per_trial=2, init_val=4)
    assert finder is not None
    assert size is not None
    return module.rate, size


@pytest.mark.parametrize("mode", ["power", "binsearch"])
@pytest.mark.parametrize("trained", [False, True], ids=["before a fit", "after a fit"])
def test_the_tuner_finds_what_it_finds_without_us(mode: str, trained: bool, tmp_path: Path) -> None:
    """All together: no adjustment, no line in the journal, and the state of before."""
    journal = tmp_path / "journal.jsonl"
    ours = automations(journal=str(journal))
    found = []
    for callbacks in (ours, []):
        trainer, module = make_trainer(callbacks, max_epochs=2, default_root_dir=tmp_path), Tunable()
        if trained:
            trainer.fit(module)
        before, written = states(ours), journal.read_text() if trained else None
        found.append(tune(trainer, module, mode))
        assert states(ours) == before
        assert (journal.read_text() if journal.exists() else None) == written
    assert found[0] == found[1]


def test_a_fit_starts_from_what_the_tuner_found(tmp_path: Path) -> None:
    """It is the run of a module that was given this rate and this batch size, adjustment by adjustment."""
    trainer, module = make_trainer(automations(), max_epochs=8, default_root_dir=tmp_path), Tunable()
    rate, size = tune(trainer, module)
    assert (rate, size) != (0.0001, 4)
    trainer.fit(module)
    other = make_trainer(automations(), max_epochs=8)
    other.fit(Tunable(rate, size))
    assert same_run(trainer, other)


@finds_rate_for_same_fit
def test_the_finders_may_be_callbacks_of_the_same_fit(tmp_path: Path) -> None:
    """``LearningRateFinder`` and ``BatchSizeFinder`` search inside the fit; the automations begin after them."""
    module = Tunable()
    finders = [
        BatchSizeFinder(max_trials=2, steps_per_trial=2, init_val=4),
        LearningRateFinder(num_training_steps=20, attr_name="rate"),
    ]
    trainer = make_trainer([*finders, *automations()], max_epochs=8, default_root_dir=tmp_path)
    trainer.fit(module)
    assert module.batch_size != 4
    assert module.rate != 0.0001
    other = make_trainer(automations(), max_epochs=8)
    other.fit(Tunable(module.rate, module.batch_size))
    assert same_run(trainer, other)


def test_automations_that_join_at_setup_are_there_once(tmp_path: Path) -> None:
    """The Tuner sets a fit up, too: what joins there is what the fit goes on with."""
    trainer, module = make_trainer([JoinAtSetup(automations, source="test")], max_epochs=1), Tunable()
    tune(trainer, module)
    joined = [item for item in trainer.callbacks if isinstance(item, AutomationCallback)]
    assert len(joined) == len(ROWS)
    assert not [item for callback in joined for item in callback.adjustments]
    trainer.fit(module)
    assert [item for item in trainer.callbacks if isinstance(item, AutomationCallback)] == joined


class TwinTunable(pytorch_lightning.LightningModule):
    """The same module in the other package."""

    def __init__(self, rate: float = 0.0001, batch_size: int = 4) -> None:
        super().__init__()
        inner = Tunable(rate)
        self.layer, self.rate, self.batch_size = inner.layer, rate, batch_size

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        inputs, targets = batch
        return torch.nn.functional.mse_loss(self.layer(inputs), targets)

    train_dataloader = Tunable.train_dataloader
    configure_optimizers = Tunable.configure_optimizers


def test_the_tuner_of_the_other_package_is_left_alone_too(tmp_path: Path) -> None:
    """``pytorch_lightning`` has a Tuner of its own."""
    ours = automations(journal=False)
    before = states(ours)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    found = []
    for callbacks in (ours, []):
        trainer = pytorch_lightning.Trainer(
            callbacks=[*callbacks], max_epochs=8, accelerator="cpu", default_root_dir=tmp_path, **quiet
        )
        module = TwinTunable()
        finder = PytorchLightningTuner(trainer).lr_find(module, num_training=20, attr_name="rate")
        size = PytorchLightningTuner(trainer).scale_batch_size(module, max_trials=2, steps_per_trial=2, init_val=4)
        found.append((finder.results, size))
        assert states(ours) == before
    assert found[0] == found[1]
