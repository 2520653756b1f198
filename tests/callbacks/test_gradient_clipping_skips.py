"""AdaptiveGradientClipping and gradients that are not finite: what is skipped, what it costs, what the scaler does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_automations import AdaptiveGradientClipping, IntelligentLearningRateScheduler
from lightning_automations.core.errors import ConfigError
from tests.callbacks.helpers import Regression, journal_entries, make_trainer, train_loader, val_loader, weights

Maker = Callable[[Any], Optimizer]
OPTIMIZERS: dict[str, Maker] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1),
    "sgd foreach": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, foreach=True),
    "sgd fused": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1, fused=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.05, foreach=False),
    "adam foreach": lambda parameters: torch.optim.Adam(parameters, lr=0.05, foreach=True),
    "adam fused": lambda parameters: torch.optim.Adam(parameters, lr=0.05, fused=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1, foreach=False),
    "adamw foreach": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1, foreach=True),
    "adamw fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1, fused=True),
    "adamw amsgrad": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, amsgrad=True),
    "adamax": lambda parameters: torch.optim.Adamax(parameters, lr=0.05, weight_decay=0.1),
    "nadam": lambda parameters: torch.optim.NAdam(parameters, lr=0.05, weight_decay=0.1),
    "radam": lambda parameters: torch.optim.RAdam(parameters, lr=0.05, weight_decay=0.1),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.05, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.05, weight_decay=0.1),
    "adadelta": lambda parameters: torch.optim.Adadelta(parameters, lr=0.05, weight_decay=0.1),
    "adafactor": lambda parameters: torch.optim.Adafactor(parameters, lr=0.05, weight_decay=0.1),
    "asgd": lambda parameters: torch.optim.ASGD(parameters, lr=0.05, weight_decay=0.1),
    "rprop": lambda parameters: torch.optim.Rprop(parameters, lr=0.05),
}


class Faulty(Regression):
    """Multiplies the loss of some optimizer steps by NaN or infinity."""

    def __init__(self, faults: Any = (), *, fault: float = math.nan, make: Maker = OPTIMIZERS["sgd"]) -> None:
        super().__init__()
        self.faults = faults
        self.fault = fault
        self.make = make

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch) * (self.fault if self.trainer.global_step in self.faults else 1.0)

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


class States(Callback):
    """Keeps copies of weights and optimizer state after every step."""

    def __init__(self) -> None:
        self.weights: list[list[Tensor]] = []
        self.optimizer: list[Any] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.weights.append(weights(pl_module))
        self.optimizer.append(copy.deepcopy(trainer.optimizers[0].state_dict()["state"]))


class Reads(Callback):
    """Counts reads from the device while clipping and in the other hooks of the callback."""

    def __init__(self, subject: AdaptiveGradientClipping, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: list[int] = []
        self.decisions: list[int] = []
        self._now = 0
        for name in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy", "cpu"):
            monkeypatch.setattr(Tensor, name, self._counting(getattr(Tensor, name)))
        for hook, kept in (("on_before_optimizer_step", self.counts), ("decision_point", self.decisions)):
            monkeypatch.setattr(subject, hook, self._measured(getattr(subject, hook), kept))

    def _counting(self, method: Any) -> Any:
        def read(*arguments: Any, **options: Any) -> Any:
            self._now += 1
            return method(*arguments, **options)

        return read

    def _measured(self, hook: Any, kept: list[int]) -> Any:
        def call(*arguments: Any) -> None:
            before = self._now
            hook(*arguments)
            kept.append(self._now - before)

        return call


def train(module: Regression, *callbacks: Any, steps: int = 20, **options: Any) -> pl.Trainer:
    """A run of some steps on the regression data."""
    trainer = make_trainer(callbacks, max_steps=steps, **options)
    trainer.fit(module, train_loader(), val_loader())
    return trainer


def clipping(**settings: Any) -> AdaptiveGradientClipping:
    """The callback with a decision every four steps."""
    return AdaptiveGradientClipping(**{"monitoring_frequency": 4, **settings})


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    """Whether two lists of tensors are equal, bit for bit."""
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def half_precision() -> MixedPrecision:
    """fp16 on the CPU; the Trainer's own `16-mixed` becomes bf16 there."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**10))


@pytest.mark.parametrize("fault", [math.nan, math.inf])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_skipped_step_leaves_weights_momentum_and_step_counters_alone(make: Maker, fault: float) -> None:
    """What holds after the step is bit for bit what held before it, and training goes on."""
    states, subject = States(), clipping()
    train(Faulty({9}, fault=fault, make=make), subject, states, steps=12)
    assert same(states.weights[8], states.weights[9])
    torch.testing.assert_close(states.optimizer[8], states.optimizer[9], rtol=0, atol=0)
    assert not torch.equal(states.weights[9][0], states.weights[10][0])
    assert subject.values()["skipped_steps"] == 1


def test_the_first_step_of_all_can_be_skipped() -> None:
    """An optimizer that has no state yet gets none from a skipped step."""
    states, module = States(), Faulty({0}, make=OPTIMIZERS["adamw fused"])
    before = weights(module)
    train(module, clipping(), states, steps=3)
    assert same(before, states.weights[0])
    assert states.optimizer[0] == {}
    assert torch.isfinite(module.layer.weight).all()


def test_skipped_steps_do_not_enter_the_statistics() -> None:
    """The history holds the finite norms alone."""
    subject = clipping()
    train(Faulty({3, 4, 9}), subject, steps=20)
    assert len(subject.brain.state_dict()["0"]["norms"]) == 17


def test_zero_keeps_bad_gradients_from_the_weights_while_momentum_acts() -> None:
    """The weights stay finite and move on by their momentum; the count comes with the norms."""
    states, subject, module = States(), clipping(skip_nonfinite="zero"), Faulty({9})
    train(module, subject, states, steps=12)
    assert torch.isfinite(module.layer.weight).all()
    assert not torch.equal(states.weights[8][0], states.weights[9][0])
    assert subject.values()["skipped_steps"] == 1


@pytest.mark.parametrize("off", ["off", False])
def test_off_lets_bad_gradients_through(off: Any) -> None:
    """The user asked for it; YAML reads an unquoted off as false."""
    subject, module = clipping(skip_nonfinite=off), Faulty({9})
    train(module, subject, steps=12)
    assert not torch.isfinite(module.layer.weight).any()
    assert subject.values()["skipped_steps"] == 0


@pytest.mark.parametrize(("skip", "reads"), [("exact", 1), ("zero", 0), ("off", 0)])
def test_one_number_is_read_in_a_step_and_one_transfer_made_for_a_decision(
    skip: str, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The norm is the only read of a step with the exact skip; without it all norms of a period come in one."""
    subject = clipping(skip_nonfinite=skip)
    counted = Reads(subject, monkeypatch)
    train(Faulty({9}), subject, counted, steps=20)
    # A norm that is not finite is looked at once more: that of finite gradients may have overflowed.
    assert counted.counts == 9 * [reads] + [2 * reads] + 10 * [reads]
    # One for the norms, where the steps have not read them, and one for the parameter behind the NaN.
    faults = 3 if skip == "off" else 1
    assert sum(counted.decisions) == faults + (0 if reads else len(counted.decisions))


def test_nothing_is_read_for_a_fused_optimizer_after_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag goes to the optimizer on the device, once retired too, and is taken away at the end."""
    for settings in ({}, {"max_adjustments": 0}):
        subject, module = clipping(**settings), Faulty({9}, make=OPTIMIZERS["adamw fused"])
        with monkeypatch.context() as patched:
            counted = Reads(subject, patched)
            trainer = train(module, subject, counted, steps=20)
        assert counted.counts == [1] + 19 * [0]
        assert torch.isfinite(module.layer.weight).all()
        assert not hasattr(trainer.optimizers[0], "found_inf")


def test_once_retired_the_norm_is_all_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The skip is protection and goes on; norms are no longer collected."""
    subject = clipping(max_adjustments=0)
    counted = Reads(subject, monkeypatch)
    train(Faulty({9}), subject, counted, steps=12)
    assert counted.counts == 9 * [1] + [2] + 2 * [1]
    assert set(counted.decisions) == {0}
    assert subject.values()["skipped_steps"] == 1


LOST = "the gradients of 20 steps in a row were not finite: the run is lost"


def lost_notes(path: Path) -> list[str]:
    """What the journal says about a lost run."""
    notes = [entry for entry in journal_entries(path) if entry["event"] == "note"]
    return [note["message"] for note in notes if "the run is lost" in note["message"]]


@pytest.mark.parametrize("settings", [{}, {"skip_nonfinite": "zero"}, {"skip_nonfinite": "off"}])
def test_a_run_of_bad_steps_ends_the_training(settings: dict[str, Any], tmp_path: Path) -> None:
    """Whatever is done about them: at once where they are counted at once, else at the next decision."""
    subject = clipping(**settings, lost_after_steps=20, journal=str(tmp_path / "journal.jsonl"))
    trainer = train(Faulty(range(9, 80)), subject, steps=80)
    assert lost_notes(tmp_path / "journal.jsonl") == [f"{LOST} and stops (lost_after_steps)"]
    assert 29 <= trainer.global_step <= 32


@pytest.mark.parametrize("settings", [{"lost_after_steps": None}, {"dry_run": True, "lost_after_steps": 20}])
def test_a_lost_run_goes_on_where_it_must_not_be_stopped(settings: dict[str, Any], tmp_path: Path) -> None:
    """A dry run says what it would have done, once."""
    subject = clipping(**settings, journal=str(tmp_path / "journal.jsonl"))
    assert train(Faulty(range(9, 80)), subject, steps=80).global_step == 80
    expected = [f"{LOST}; it would be stopped"] if "dry_run" in settings else []
    assert lost_notes(tmp_path / "journal.jsonl") == expected


def test_a_lost_run_is_left_to_an_automation_that_brings_it_back(tmp_path: Path) -> None:
    """It is asked before the run is stopped."""

    class Rescuer(IntelligentLearningRateScheduler):
        asked = 0

        def bring_back(self, trainer: pl.Trainer) -> bool:
            self.asked += 1
            return True

    rescuer = Rescuer(find_start=False, snapshots="none")
    subject = clipping(lost_after_steps=20, journal=str(tmp_path / "journal.jsonl"))
    trainer = train(Faulty(range(9, 40)), subject, rescuer, steps=60)
    assert lost_notes(tmp_path / "journal.jsonl") == [f"{LOST}; another automation brings it back"]
    assert (rescuer.asked, trainer.global_step) == (1, 60)


def test_bad_steps_with_good_ones_between_do_not_look_lost(tmp_path: Path) -> None:
    """The run of bad steps begins anew with every good one."""
    subject = clipping(journal=str(tmp_path / "journal.jsonl"))
    train(Faulty(set(range(120)) - {30, 60, 90}), subject, steps=120)
    notes = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    assert notes == ["non-finite gradients; such steps are kept from the weights and counted"]


class Overflowing(Faulty):
    """Its loss is so large that scaled fp16 gradients overflow until the scale has come down."""

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(self.layer(inputs).float(), targets) * 300


@pytest.mark.parametrize("skip", ["exact", "zero"])
def test_an_overflow_of_the_scaler_is_no_fault(skip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scaler skips and lowers its scale as without us; nothing is read, counted or said by us."""
    plain, ours = States(), States()
    plugins = [half_precision(), half_precision()]
    train(Overflowing(make=OPTIMIZERS["adamw"]), plain, plugins=plugins[0])
    subject = clipping(skip_nonfinite=skip, journal=str(tmp_path / "journal.jsonl"))
    counted = Reads(subject, monkeypatch)
    train(Overflowing(make=OPTIMIZERS["adamw"]), subject, ours, counted, plugins=plugins[1])
    scales = [plugin.scaler.get_scale() for plugin in plugins if plugin.scaler is not None]
    assert scales[0] == scales[1] < 2.0**10
    overflows = [step for step in range(1, 20) if torch.equal(ours.weights[step][0], ours.weights[step - 1][0])]
    assert overflows == [
        step for step in range(1, 20) if torch.equal(plain.weights[step][0], plain.weights[step - 1][0])
    ]
    assert overflows
    assert counted.counts == 20 * [0]
    assert subject.values()["skipped_steps"] == 0
    assert not [entry for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]


def test_norms_of_fp16_runs_are_those_of_unscaled_gradients() -> None:
    """The scaler multiplies gradients by a thousand; the norms are as large as those of a run without one."""
    scaled, unscaled = clipping(), clipping()
    train(Faulty(), scaled, steps=4, plugins=half_precision())
    train(Faulty(), unscaled, steps=4)
    assert scaled.values()["norm"] == pytest.approx(unscaled.values()["norm"], rel=0.01)


def test_gradients_taken_away_do_not_upset_the_scaler() -> None:
    """A callback in front of ours may drop gradients of a step; the scaler still finds what it recorded."""

    class Dropping(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            if trainer.global_step == 3:
                pl_module.layer.weight.grad = pl_module.layer.bias.grad = None

    subject, module = clipping(), Faulty()
    trainer = train(module, Dropping(), subject, steps=8, plugins=half_precision())
    assert trainer.global_step == 8
    assert torch.isfinite(module.layer.weight).all()


def test_bf16_needs_no_scaler_and_has_the_exact_skip() -> None:
    """bf16-mixed runs are like those in full precision."""
    subject, module = clipping(), Faulty({9})
    train(module, subject, steps=12, precision="bf16-mixed")
    assert torch.isfinite(module.layer.weight).all()
    assert subject.values()["skipped_steps"] == 1


@pytest.mark.parametrize("dry_run", [True, False])
def test_fused_optimizers_with_a_scaler_are_refused(dry_run: bool) -> None:
    """They unscale inside their step: the hook would see, and clip, scaled gradients."""
    module = Faulty(make=OPTIMIZERS["adamw fused"])
    before = weights(module)
    with pytest.raises(ConfigError) as refused:
        train(module, clipping(dry_run=dry_run), plugins=half_precision())
    assert str(refused.value) == (
        "AdaptiveGradientClipping: expected an optimizer whose gradients are unscaled before its step, got AdamW that "
        "unscales them inside its step (fused=True with a GradScaler). Use fused=False or bf16-mixed precision, or "
        "disable the automation."
    )
    assert same(before, weights(module))


def test_lbfgs_ends_a_step_that_has_no_gradients() -> None:
    """LBFGS takes a missing gradient for zero: the weights stay where its last good evaluation led them."""
    module = Faulty({3}, make=lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=2))
    states, subject = States(), clipping()
    train(module, subject, states, steps=6)
    assert same(states.weights[2], states.weights[3])
    assert torch.isfinite(module.layer.weight).all()


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_lightnings_clipping_bears_a_step_that_is_skipped(algorithm: str) -> None:
    """Torch cannot clip by value where no gradient is left; the steps around it are clipped as ever."""

    class Largest(Callback):
        """Of the gradients, as the optimizer gets them."""

        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            self.seen.append(max((gradient.abs().max().item() for gradient in gradients), default=0.0))

    module, largest = Faulty(faults=(3,)), Largest()
    callbacks = [AdaptiveGradientClipping(), largest]
    trainer = make_trainer(callbacks, max_steps=8, gradient_clip_val=0.01, gradient_clip_algorithm=algorithm)
    trainer.fit(module, train_loader(), val_loader())
    assert callbacks[0].values()["skipped_steps"] == 1
    assert trainer.gradient_clip_val == 0.01
    assert all(torch.isfinite(weight).all() for weight in weights(module))
    assert 0 < max(largest.seen) <= 0.01 + 1e-6
    assert len([norm for norm in largest.seen if norm]) >= 6
