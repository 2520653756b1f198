"""AdaptiveGradientClipping where runs are odd: optimizers, units, failures, resumes, and what the journal says then."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from lightning_automations import AdaptiveGradientClipping, IntelligentLearningRateScheduler
from tests.callbacks.helpers import Regression, journal_entries, make_trainer, train_loader, val_loader, weights
from tests.callbacks.test_gradient_clipping_skips import OPTIMIZERS, Faulty, clipping, half_precision, same, train


def outliers(path: Path) -> list[dict[str, Any]]:
    """What the journal says of them."""
    return [entry for entry in journal_entries(path) if entry["event"] == "outlier"]


class InUnit(Faulty):
    """Its loss has another unit, and its optimizer the rate that fits."""

    def __init__(self, unit: float, **options: Any) -> None:
        super().__init__(**options)
        self.unit = unit

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * self.unit


# Optimizers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_is_not_clipped(search: str | None, tmp_path: Path) -> None:
    """A threshold would make two gradients alike, from whose difference it learns the curvature."""

    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(parameters, lr=0.5, line_search_fn=search)

    plain, ours = InUnit(100.0, make=make), InUnit(100.0, make=make)
    train(plain, steps=8)
    train(ours, clipping(journal=str(tmp_path / "journal.jsonl")), steps=8)
    assert same(weights(plain), weights(ours))
    (note,) = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    assert note.startswith("LBFGS compares gradients of several evaluations")


def test_a_run_resumed_with_a_fused_optimizer_goes_on(tmp_path: Path) -> None:
    """The checkpoint's groups are not fused, whatever the new optimizer's defaults say."""
    path = tmp_path / "last.ckpt"
    train(Faulty(make=OPTIMIZERS["adamw"]), clipping(), steps=6).save_checkpoint(path)
    module = Faulty({9}, make=OPTIMIZERS["adamw fused"])
    subject = clipping(on_error="raise")
    trainer = make_trainer([subject], max_steps=12)
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=path)
    assert trainer.global_step == 12
    assert torch.isfinite(module.layer.weight).all()


def test_an_optimizer_that_unscales_by_itself_and_comes_later_is_left_alone(tmp_path: Path) -> None:
    """Its gradients are scaled; a threshold for them would be one of another unit."""

    class Replacing(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 6:
                trainer.optimizers = [OPTIMIZERS["adamw fused"](pl_module.parameters())]

    subject = clipping(journal=str(tmp_path / "journal.jsonl"))
    train(Faulty(make=OPTIMIZERS["adamw"]), subject, Replacing(), steps=16, plugins=half_precision())
    notes = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    assert notes == ["AdamW unscales its gradients itself; they are left alone"]
    assert subject.values()["norm"] < 100  # scaled by 1,024 they would be in the thousands


class TwoOptimizers(Regression):
    """The second optimizer steps once in ten batches."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(4, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        often, rarely = self.optimizers()
        for optimizer, layer in ((often, self.layer), (rarely, self.other)):
            if optimizer is often or self.trainer.global_step % 11 == 10:
                optimizer.zero_grad()
                self.manual_backward(nn.functional.mse_loss(layer(batch[0]), batch[1]))
                optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(layer.parameters(), lr=0.01) for layer in (self.layer, self.other)]


def test_an_optimizer_that_steps_rarely_leaves_the_other_its_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its first steps is taken up at once, and only then is there a decision out of turn."""
    subject, made = AdaptiveGradientClipping(), []
    decide = subject.decide
    monkeypatch.setattr(subject, "decide", lambda *arguments: (made.append(1), decide(*arguments)))
    trainer = make_trainer([subject], max_steps=220)
    trainer.fit(TwoOptimizers(), train_loader(), val_loader())
    assert 22 <= len(made) <= 22 + 8 + 8


def test_the_last_adjustment_of_one_optimizer_leaves_the_figures_of_the_other(tmp_path: Path) -> None:
    """What happened under its threshold is not told as if the fallback had held."""
    subject = AdaptiveGradientClipping(
        max_adjustments=1, fallback={"threshold": 1e-3}, journal=str(tmp_path / "journal.jsonl")
    )
    trainer = make_trainer([subject], max_steps=40)
    trainer.fit(TwoOptimizers(), train_loader(), val_loader())
    assert subject.retired
    assert outliers(tmp_path / "journal.jsonl") == []


def test_skipped_steps_of_each_optimizer_are_counted_once() -> None:
    """One is fused and counted at the decision, the other one is counted as it steps."""

    class Struck(TwoOptimizers):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            for optimizer, layer in zip(self.optimizers(), (self.layer, self.other), strict=True):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(layer(batch[0]), batch[1])
                self.manual_backward(loss * (math.nan if self.trainer.global_step in (20, 31) else 1.0))
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.AdamW(self.layer.parameters(), fused=True), torch.optim.SGD(self.other.parameters())]

    subject = clipping()
    make_trainer([subject], max_steps=60).fit(Struck(), train_loader(), val_loader())
    assert subject.values()["skipped_steps"] == 2


# Units, and what holds once it has retired ---------------------------------------------------------------------------


def test_finite_gradients_whose_squares_overflow_are_clipped_and_not_skipped() -> None:
    """In 32 bits the sum of squares is infinite from 1.8e19 on; Adam does not mind the unit."""
    subject, module = clipping(), InUnit(1e19, make=OPTIMIZERS["adam"])
    before = module.layer.weight.detach().clone()
    train(module, subject, steps=20)
    assert subject.values()["skipped_steps"] == 0
    assert torch.isfinite(module.layer.weight).all()
    assert not torch.equal(before, module.layer.weight)


@pytest.mark.parametrize("unit", [1e4, 1e-4])
def test_a_fallback_that_is_not_written_is_the_threshold_that_held_last(unit: float) -> None:
    """1.0 would stop a run in one unit and protect from nothing in another."""
    subject = clipping(max_adjustments=1)
    train(InUnit(unit, make=lambda parameters: torch.optim.SGD(parameters, lr=0.05 / unit)), subject, steps=40)
    assert subject.retired
    held = subject.adjustments[-1].new
    values = subject.values()
    assert values["threshold"] == pytest.approx(held)
    assert 0.1 * unit < held < 1000 * unit
    assert all(math.isnan(values[name]) for name in ("norm", "norm_after", "clipped_share", "norm_quartile_1"))


def test_a_fallback_that_is_written_holds() -> None:
    """Whatever the threshold was."""
    subject = clipping(max_adjustments=1, fallback={"threshold": 0.25})
    train(Faulty(), subject, steps=40)
    assert subject.values()["threshold"] == 0.25


# Failures ------------------------------------------------------------------------------------------------------------


def test_the_step_in_which_it_fails_is_clipped_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the limit that held last: on several ranks the others clip that step, too."""
    subject, module = clipping(), Faulty({12}, fault=1e6)
    brain_class = type(subject.brain)
    limit = brain_class.limit

    def failing(brain: Any, index: int = 0) -> Any:
        if module.trainer.global_step >= 12:
            raise RuntimeError("injected")
        return limit(brain, index)

    monkeypatch.setattr(brain_class, "limit", failing)
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR", raising=False)
    train(module, subject, steps=16)
    assert subject.retired
    assert module.layer.weight.abs().max() < 10


# Lost runs -----------------------------------------------------------------------------------------------------------


def test_a_run_that_is_brought_back_and_lost_again_is_brought_back_again() -> None:
    """Every so many steps, as long as it is lost."""

    class Rescuer(IntelligentLearningRateScheduler):
        asked = 0

        def bring_back(self, trainer: pl.Trainer) -> bool:
            self.asked += 1
            return True

    rescuer = Rescuer(find_start=False, snapshots="none")
    train(Faulty(range(9, 80)), clipping(lost_after_steps=20), rescuer, steps=80)
    assert rescuer.asked == 3


def test_a_lost_run_that_is_resumed_is_stopped_again(tmp_path: Path) -> None:
    """Nobody trains for days on nothing because the first warning was long ago."""
    path, faults = tmp_path / "last.ckpt", range(9, 200)
    trainer = train(Faulty(faults), clipping(lost_after_steps=20), steps=200)
    trainer.save_checkpoint(path)
    again = make_trainer([clipping(lost_after_steps=20)], max_steps=200)
    again.fit(Faulty(faults), train_loader(), val_loader(), ckpt_path=path)
    assert (trainer.global_step, again.global_step) == (29, 49)


def test_a_run_resumed_among_bad_steps_is_lost_where_it_would_have_been(tmp_path: Path) -> None:
    """The count goes on; what was said is not said again, and the last figures are there at once."""
    path = tmp_path / "last.ckpt"
    first = clipping(lost_after_steps=20)
    train(Faulty(range(9, 200)), first, steps=20).save_checkpoint(path)
    second = clipping(lost_after_steps=20, journal=str(tmp_path / "journal.jsonl"))
    seen = {}

    class AtStart(Callback):
        def on_train_start(self, *_: Any) -> None:
            seen.update(second.values())

    trainer = make_trainer([second, AtStart()], max_steps=200)
    trainer.fit(Faulty(range(9, 200)), train_loader(), val_loader(), ckpt_path=path)
    assert trainer.global_step == 29
    assert seen == pytest.approx(dict(first.values()), nan_ok=True)
    notes = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    assert [note for note in notes if "such steps" in note] == []


# The journal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "fault", "left"),
    [
        ({}, math.nan, 0.0),
        ({"skip_nonfinite": "zero"}, math.nan, 0.0),
        ({"skip_nonfinite": "off"}, math.inf, "nan"),
        ({"dry_run": True}, 1e6, None),
    ],
)
def test_the_journal_says_what_was_left_of_an_outlier(
    settings: dict[str, Any], fault: float, left: Any, tmp_path: Path
) -> None:
    """Nothing of a step that was skipped, all of one that was let through."""
    train(Faulty({9}, fault=fault), clipping(**settings, journal=str(tmp_path / "journal.jsonl")), steps=12)
    entry = outliers(tmp_path / "journal.jsonl")[0]
    assert entry["left"] == (entry["norm"] if left is None else left)


def test_an_overflow_of_the_scaler_hides_no_outlier_and_is_none(tmp_path: Path) -> None:
    """Both in one period: the farthest finite norm is told of."""

    class Both(Faulty):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            loss = self.loss(batch)
            return loss * {25: 300.0, 26: 1e30}.get(self.trainer.global_step, 1.0)

    subject = clipping(journal=str(tmp_path / "journal.jsonl"))
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=16.0))
    train(Both(make=OPTIMIZERS["adamw"]), subject, steps=40, plugins=plugin)
    (entry,) = outliers(tmp_path / "journal.jsonl")
    assert entry["step"] == 25
    assert math.isfinite(entry["norm"])


def test_a_dry_run_leaves_sparse_gradients_as_they_are() -> None:
    """Rows that occur twice are added up by the optimizer, in its own order."""

    class Embedded(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(8, 4, sparse=True)

        def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            return super().loss(batch) + (self.embedding(torch.tensor([1, 3, 1, 1])) - 1).pow(3).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.003)

    plain, ours = Embedded(), Embedded()
    ours.load_state_dict(plain.state_dict())
    train(plain, steps=30)
    train(ours, clipping(dry_run=True), steps=30)
    assert same(weights(plain), weights(ours))
