"""A run that diverges goes back and ends well: real faults in real runs, resumed anywhere, on two ranks too."""

import copy
import json
import math
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import Callback

from lightning_automations import AdaptiveGradientClipping, IntelligentLearningRateScheduler
from lightning_automations.callbacks.learning_rate import TENSORS_KEY
from lightning_automations.core.decision import Reason
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.helpers import Regression, SaveAt, make_trainer, run_script, train_loader, val_loader
from tests.requirements import checkpoint_from, has_weight_averaging

STEPS = 240
FAULT_AT = 100
GOOD = 0.05
"""Validation loss; the noise in the data alone makes 0.01 of it, and an untrained network has 14."""


class Fault(Callback):
    """Does one bad thing after one step; a resumed run does not do it again."""

    def __init__(self, kind: str, *, step: int = FAULT_AT) -> None:
        self.kind = kind
        self.step = step
        self.done = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step != self.step or self.done:
            return
        self.done = True
        with torch.no_grad():
            if self.kind == "NaN weights":
                pl_module.layer.weight.fill_(math.nan)
            elif self.kind == "weights x1000":
                pl_module.layer.weight.mul_(1000.0)
            elif self.kind == "rate x1000":
                trainer.optimizers[0].param_groups[0]["lr"] *= 1000.0

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.done = state_dict["done"]


class LosesItsLoss(Regression):
    """Its loss is no number for some steps, and poisons the weights with it."""

    lost = range(0)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) * (math.nan if self.global_step in self.lost else 1.0)


def fit(
    *extra: Callback, checkpoint: str | None = None, lost: range = range(0), steps: int = STEPS, **settings: Any
) -> tuple[pl.Trainer, Regression, IntelligentLearningRateScheduler]:
    """A run with validations, and what is left of it."""
    module, subject = LosesItsLoss(), IntelligentLearningRateScheduler(**settings)
    module.lost = lost
    trainer = make_trainer(
        [*extra[:1], subject, *extra[1:]],
        max_steps=steps,
        max_epochs=-1,
        val_check_interval=16,
        check_val_every_n_epoch=None,
    )
    trainer.fit(
        module, train_loader(), val_loader(), **checkpoint_from(checkpoint, weights_only=False if checkpoint else None)
    )
    return trainer, module, subject


def reasons(subject: IntelligentLearningRateScheduler) -> list[Reason]:
    """Why each change was made."""
    return [adjustment.reason for adjustment in subject.adjustments]


@pytest.mark.parametrize("kind", ["NaN weights", "weights x1000", "rate x1000"])
def test_a_run_that_is_struck_recovers(kind: str) -> None:
    """It ends as well as one that was left alone, where the bounds reach so far; without snapshots it does not."""
    steps, lowest = (400, 1e-4) if kind == "rate x1000" else (STEPS, 0.1)
    trainer, _, subject = fit(Fault(kind), steps=steps, min_lr_factor=lowest)
    assert {Reason.NON_FINITE, Reason.DIVERGENCE} & set(reasons(subject))
    assert trainer.callback_metrics["val/loss"] < GOOD
    if kind == "NaN weights":
        trainer, _, _ = fit(Fault(kind), snapshots="none")
        assert not trainer.callback_metrics["val/loss"] < GOOD


def test_a_loss_that_is_no_number_for_some_steps_is_overcome() -> None:
    """Though the weights are lost with the first of them."""
    trainer, _, subject = fit(lost=range(90, 94))
    assert Reason.NON_FINITE in reasons(subject)
    assert trainer.callback_metrics["val/loss"] < GOOD


@has_weight_averaging
def test_averaged_weights_recover_too() -> None:
    """One step with NaN would leave Lightning's average NaN for ever."""
    average = lightning_callbacks.EMAWeightAveraging(decay=0.9)
    trainer, module, _ = fit(Fault("NaN weights"), average)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert trainer.callback_metrics["val/loss"] < GOOD


def test_the_weights_are_those_of_the_snapshot_bit_for_bit() -> None:
    """And those of the optimizer's state; the others hear of the step that came back."""
    seen: dict[int, Any] = {}
    after: list[Any] = []

    class Watches(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            state = trainer.optimizers[0].state_dict()["state"]
            seen[trainer.global_step] = copy.deepcopy((pl_module.state_dict(), state))
            if heard and not after:
                after.append(seen[trainer.global_step])

    heard: list[Event] = []

    class Hears(AdaptiveGradientClipping):
        def hear(self, trainer: pl.Trainer, event: Event) -> None:
            super().hear(trainer, event)
            heard.extend([event] if event.kind is EventKind.ROLLED_BACK else [])

    fit(Fault("weights x1000"), Hears(max_threshold=1e9, min_threshold=1e8), Watches())
    assert len(heard) == 1
    weights, state = seen[heard[0].step]
    assert 0 < heard[0].step < FAULT_AT
    assert all(torch.equal(value, after[0][0][name]) for name, value in weights.items())
    assert all(torch.equal(state[0][name], after[0][1][0][name]) for name in state[0])


def test_a_loss_that_weighs_a_hundred_times_as_much_is_no_divergence() -> None:
    """The run goes back, sees that the weights were not at fault, and takes that back, factor and all."""

    class Reweighed(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch, batch_idx) * (1e4 if self.global_step >= 100 else 1.0)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    subject = IntelligentLearningRateScheduler(find_start=False, raise_rate=False, anneal_share=0.0)
    trainer = make_trainer([subject], max_steps=160, max_epochs=-1)
    trainer.fit(Reweighed(), train_loader(), val_loader())
    assert reasons(subject) == [Reason.DIVERGENCE, Reason.LOSS_CHANGED]
    assert subject.brain.factor == 1.0


@pytest.mark.parametrize("limit", [0, 2])
def test_it_goes_back_at_most_so_often(limit: int) -> None:
    """A run that is lost for good ends, and is not held up."""
    trainer, _, subject = fit(lost=range(60, STEPS), max_rollbacks=limit)
    assert trainer.global_step == STEPS
    assert subject.brain.state.rollbacks == limit


@pytest.mark.parametrize("kind", ["NaN weights", "weights x1000"])
@pytest.mark.parametrize("stop", [3, 15, FAULT_AT - 2, FAULT_AT + 3, FAULT_AT + 15, 200])
def test_a_resumed_run_does_what_the_uninterrupted_one_did(kind: str, stop: int, tmp_path: Path) -> None:
    """In the trial, in an open window, between divergence and recovery, in the anneal: adjustments and weights."""
    save = SaveAt(stop, tmp_path)
    _, module, subject = fit(Fault(kind), save)
    assert TENSORS_KEY in torch.load(save.path, weights_only=True)
    _, resumed, again = fit(Fault(kind), checkpoint=save.path)
    assert again.adjustments == subject.adjustments
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("snapshots", ["host", "none"])
def test_an_open_window_goes_on_whatever_the_order_of_the_parameters(snapshots: str, tmp_path: Path) -> None:
    """The optimizer has its own, and without snapshots the window is saved all the same."""

    class Groups(Regression):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([{"params": [self.layer.bias]}, {"params": [self.layer.weight]}], lr=0.001)

    def run(*extra: Callback, checkpoint: str | None = None) -> tuple[list[Any], dict[str, Any]]:
        subject = IntelligentLearningRateScheduler(snapshots=snapshots, find_start=False, max_lr_factor=1000.0)
        module, trainer = Groups(), make_trainer([subject, *extra], max_steps=40, max_epochs=-1)
        only_tensors = False if checkpoint else None
        trainer.fit(module, train_loader(), val_loader(), **checkpoint_from(checkpoint, weights_only=only_tensors))
        return subject.adjustments, module.state_dict()

    save = SaveAt(5, tmp_path)
    adjustments, weights = run(save)
    again, resumed = run(checkpoint=save.path)
    assert Reason.GRADIENT_POINTS_ON in [adjustment.reason for adjustment in adjustments]
    assert again == adjustments
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())


def test_two_ranks_go_back_together(tmp_path: Path) -> None:
    """Only one of them is struck; both make the same decisions and end with the same weights."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    run_script(Path(__file__).with_name("script_rollback.py"), str(tmp_path), environment=environment)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert "non_finite" in [item["reason"] for item in ranks[0]["adjustments"]]
    assert all(math.isfinite(weight) for weight in ranks[0]["weights"])


def test_a_checkpoint_loads_without_us(tmp_path: Path) -> None:
    """What is in it for us is left alone."""
    save = SaveAt(60, tmp_path)
    fit(Fault("none"), save)
    trainer = make_trainer(max_steps=80, max_epochs=-1)
    with pytest.warns(UserWarning, match="IntelligentLearningRateScheduler"):
        trainer.fit(Regression(), train_loader(), val_loader(), **checkpoint_from(save.path, weights_only=False))
    assert trainer.global_step == 80


def test_clipping_hands_a_lost_run_over() -> None:
    """Steps whose gradients are no numbers are skipped; the rate is lowered and the run goes on."""
    clipping = AdaptiveGradientClipping(lost_after_steps=5)
    trainer, _, subject = fit(clipping, lost=range(90, 98))
    assert trainer.global_step == STEPS
    assert Reason.NON_FINITE in reasons(subject)
    assert trainer.callback_metrics["val/loss"] < GOOD


def test_a_dry_run_changes_nothing() -> None:
    """Not a bit, though it would."""
    _, plain, _ = fit(enabled=False)
    _, module, subject = fit(dry_run=True)
    assert subject.adjustments
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in module.state_dict().items())


def test_without_snapshots_none_are_kept(tmp_path: Path) -> None:
    """Nor do checkpoints grow."""
    save = SaveAt(60, tmp_path)
    _, _, subject = fit(Fault("none"), save, snapshots="none")
    assert TENSORS_KEY not in torch.load(save.path, weights_only=True)
    assert subject._points.state_dict() == {}


def test_a_fine_tuning_run_keeps_its_rate() -> None:
    """Trained to its end, the loss does not move: one lower rate is tried, and the given one holds."""
    _, trained, _ = fit(enabled=False)
    module, subject = Regression(rate=1e-5), IntelligentLearningRateScheduler(anneal_share=0.0)
    module.load_state_dict(trained.state_dict())
    make_trainer([subject], max_steps=60, max_epochs=-1).fit(module, train_loader(), val_loader())
    assert subject.brain.factor >= 1.0
    inputs, targets = next(iter(val_loader()))
    assert trained.loss((inputs, targets)) * 1.05 > module.loss((inputs, targets))
