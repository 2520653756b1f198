"""AdaptiveGradientClipping in real runs: what it clips at, what it tells, and what it leaves alone."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor, nn

from lightning_automations import AdaptiveGradientClipping
from lightning_automations.callbacks.gradient_limits import refuse_optimizers
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.helpers import (
    Regression,
    SaveAt,
    journal_entries,
    make_trainer,
    run_script,
    train_loader,
    val_loader,
    weights,
)

VALUES = "automation/adaptive_gradient_clipping/"


class Faulty(Regression):
    """Multiplies the loss of some optimizer steps by a number."""

    def __init__(self, faults: dict[int, float], **options: Any) -> None:
        super().__init__(**options)
        self.faults = faults

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch) * self.faults.get(self.trainer.global_step, 1.0)


class Norms(Callback):
    """Keeps the norm of all gradients as the optimizer sees them; belongs behind the clipping."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self.seen.append(nn.utils.get_total_norm(gradients).item())


def train(module: pl.LightningModule, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> pl.Trainer:
    """A run of 40 steps unless told otherwise."""
    trainer = make_trainer(callbacks, **{"max_steps": 40, **options})
    trainer.fit(module, train_loader(), validation(module), ckpt_path=checkpoint)
    return trainer


def validation(module: pl.LightningModule) -> Any:
    """A validation loader for the modules that validate: Lightning warns where one has none."""
    return val_loader() if isinstance(module, Regression) else None


def clipping(**settings: Any) -> AdaptiveGradientClipping:
    """The callback with a decision every four steps."""
    return AdaptiveGradientClipping(**{"monitoring_frequency": 4, **settings})


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    """Whether two lists of tensors are equal, bit for bit."""
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def test_every_step_is_clipped_from_the_first_on() -> None:
    """The gradients of this run start at a norm above 10; none reaches the optimizer above the threshold."""
    before, after = Norms(), Norms()
    subject = clipping(initial_threshold=1.0, gradient_history_size=50, monitoring_frequency=1000)
    train(Regression(), before, subject, after, max_steps=8)
    assert max(before.seen) > 5
    assert max(after.seen) <= 1.0 + 1e-5
    assert [min(norm, 1.0) for norm in before.seen] == pytest.approx(after.seen, rel=1e-5)


def test_the_threshold_follows_the_usual_norm() -> None:
    """It leaves the initial threshold for one above the usual norm, and says so with numbers."""
    subject = clipping()
    train(Regression(), subject)
    first = subject.adjustments[0]
    assert (first.step, first.old) == (8, 1.0)
    assert first.new > first.evidence["usual_norm"] > 1.0


def test_a_far_outlier_is_brought_down_to_the_usual_norm() -> None:
    """A loss a thousand times too large for one step leaves a gradient of the usual size, not of the threshold's."""
    after = Norms()
    subject = clipping()
    train(Faulty({30: 1000.0}), subject, after, max_steps=31)
    assert after.seen[30] == pytest.approx(subject.brain.limit().usual, rel=1e-4)
    assert after.seen[30] < 0.7 * subject.brain.limit().threshold


def test_values_are_published_and_logged(tmp_path: Path) -> None:
    """Threshold, norm, share clipped and steps skipped, from the first decision on."""
    subject = clipping()
    trainer = train(Faulty({5: math.nan}), subject, max_steps=20)
    values = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith(VALUES)}
    assert values[f"{VALUES}threshold"] == pytest.approx(subject.brain.limit().threshold)
    assert values[f"{VALUES}norm"] >= values[f"{VALUES}norm_after"] > 0
    assert 0 < values[f"{VALUES}norm_quartile_1"] < values[f"{VALUES}norm_quartile_3"]
    assert values[f"{VALUES}clipped_share"] == 0.0
    assert values[f"{VALUES}skipped_steps"] == 1


def test_a_run_inside_one_period_still_shows_its_norms() -> None:
    """At the end the norms that wait are described, and kept for a fit that goes on."""
    subject = AdaptiveGradientClipping()
    train(Regression(), subject, max_steps=13)
    assert len(subject.extra_state()["steps"]["norms"]) == 3
    assert subject.values()["norm"] > 1
    assert subject.values()["clipped_share"] in (0.0, 1.0)


@pytest.mark.parametrize("skip", ["exact", "zero"])
@pytest.mark.parametrize("at", [3, 18, 20, 23])
def test_resumed_in_the_middle_of_a_period_it_is_the_same_run(at: int, skip: str, tmp_path: Path) -> None:
    """Same adjustments, same weights, same counts, bit for bit, through JSON; with faults on both sides."""
    faults = {6: math.nan, 17: 1000.0, 21: math.nan, 30: 500.0}
    whole, saver = clipping(skip_nonfinite=skip), SaveAt(at, tmp_path)
    module = Faulty(faults)
    train(module, whole, saver)
    checkpoint = torch.load(saver.path, weights_only=True)
    state = checkpoint["callbacks"]["AdaptiveGradientClipping"]
    assert json.loads(json.dumps(state)) == state or at == 23  # NaN equals nothing, itself included
    assert len(state["extra"]["steps"]["norms"]) == (0 if at == 3 else at % 4)
    resumed, second = clipping(skip_nonfinite=skip), Faulty(faults, seed=3)
    train(second, resumed, checkpoint=saver.path)
    assert resumed.adjustments == whole.adjustments
    assert resumed.values() == whole.values()
    assert same(weights(module), weights(second))


def test_a_dry_run_tells_what_it_would_have_done(tmp_path: Path) -> None:
    """Weights of plain Lightning, bit for bit, and the counts of what would have been clipped."""
    plain, dry = Regression(), Regression()
    train(plain)
    subject = clipping(dry_run=True, journal=str(tmp_path / "journal.jsonl"))
    trainer = train(dry, subject, max_steps=40)
    assert same(weights(plain), weights(dry))
    entries = journal_entries(tmp_path / "journal.jsonl")
    assert [entry["applied"] for entry in entries if entry["event"] == "adjustment"]
    assert not any(entry["applied"] for entry in entries if entry["event"] == "adjustment")
    assert trainer.callback_metrics[f"{VALUES}norm"] > 0


def test_a_dry_run_counts_the_steps_it_would_have_skipped() -> None:
    """The NaN reaches the weights, as it does without us, and the count says so."""
    subject, module = clipping(dry_run=True), Faulty({5: math.nan})
    train(module, subject, max_steps=12)
    assert not torch.isfinite(module.layer.weight).any()
    assert subject.values()["skipped_steps"] == 7


def test_the_budget_used_up_leaves_the_constant_threshold_and_the_skip() -> None:
    """After retirement the fallback's threshold holds, nothing is collected, non-finite steps are still skipped."""
    after = Norms()
    subject, module = clipping(max_adjustments=1, fallback={"threshold": 0.5}), Faulty({30: math.nan})
    train(module, subject, after)
    assert subject.retired
    assert max(after.seen[8:]) <= 0.5 + 1e-5
    assert after.seen[30] == 0.0
    assert torch.isfinite(module.layer.weight).all()
    assert subject.values() == {**subject.values(), "threshold": 0.5, "skipped_steps": 1.0}
    assert subject.extra_state()["steps"]["norms"] == []


@pytest.mark.parametrize("broken", ["observe", "limit"])
def test_an_error_in_the_brain_hands_over_to_the_fallback(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a decision as in a step: it retires, the constant threshold holds, training ends."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    subject, after = clipping(fallback={"threshold": 0.5}), Norms()

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("broken on purpose")

    class Break(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            monkeypatch.setattr(subject.brain, broken, fail)

    trainer = train(Regression(), subject, Break(), after)
    assert trainer.global_step == 40
    assert subject.retired
    assert max(after.seen[8:]) <= 0.5 + 1e-5


def test_one_norm_for_each_real_step_under_accumulation() -> None:
    """Four batches make one step, one norm and, with four steps to a period, 16 batches one decision."""
    subject = clipping()
    trainer = train(Regression(), subject, max_steps=10, accumulate_grad_batches=4)
    assert trainer.global_step == 10
    assert len(subject.extra_state()["steps"]["norms"]) == 2
    assert subject.adjustments[0].step == 8
    assert subject.adjustments[0].evidence["norms"] == 8


class Own(Regression):
    """Has a clipping of its own."""

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        nn.utils.clip_grad_value_(self.parameters(), 0.01)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Own, {}, "the module's configure_gradient_clipping acts after it, on what it left"),
        (
            Regression,
            {"gradient_clip_val": 0.01},
            "the Trainer's gradient_clip_val=0.01 acts after it, on what it left",
        ),
        (Regression, {}, None),
        (BoringModel, {}, None),
    ],
)
def test_another_clipping_acts_last_and_that_is_said_once(
    module: Callable[[], pl.LightningModule], options: dict[str, Any], message: str | None, tmp_path: Path
) -> None:
    """Ours comes first; the user's own clipping decides what the optimizer sees."""
    subject = clipping(journal=str(tmp_path / "journal.jsonl"))
    made = module()
    trainer = make_trainer([subject], max_steps=8, **options)
    trainer.fit(made, None if isinstance(made, BoringModel) else train_loader(), validation(made))
    notes = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    assert notes == ([message] if message else [])
    if message:
        assert max(weight.grad.abs().max().item() for weight in made.parameters() if weight.grad is not None) <= 0.0101
        assert subject.values()["norm"] > 1


class TwoOptimizers(Regression):
    """Manual optimization of two layers by an optimizer each; the second one's loss is a hundred times larger."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.second = nn.Linear(4, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # type: ignore[override]
        first, second = self.optimizers()
        loss = self.loss(batch) + 100 * nn.functional.mse_loss(self.second(batch[0]), batch[1])
        first.zero_grad()
        second.zero_grad()
        self.manual_backward(loss)
        first.step()
        second.step()

    def configure_optimizers(self) -> Any:
        layers = (self.layer, self.second)
        return [
            torch.optim.SGD(layer.parameters(), lr=rate) for layer, rate in zip(layers, (0.01, 0.0001), strict=True)
        ]


def test_two_optimizers_have_a_threshold_each() -> None:
    """In manual optimization the norms of each optimizer's own parameters make its threshold."""
    subject = clipping(monitoring_frequency=8)
    train(TwoOptimizers(), subject, max_steps=80)
    values = subject.values()
    names = ("threshold", "norm", "norm_after", "clipped_share", "norm_quartile_1", "norm_quartile_3")
    assert set(values) == {f"{name}_{index}" for name in names for index in (0, 1)} | {"skipped_steps"}
    assert values["threshold_1"] > 5 * values["threshold_0"]
    assert {adjustment.parameter for adjustment in subject.adjustments} == {"threshold_0", "threshold_1"}


class Thawing(Regression):
    """A second layer that never gets a gradient, one that is frozen for 20 steps, and a loss of zero at step 10."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 1)
        self.late = nn.Linear(4, 1).requires_grad_(False)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.late.requires_grad_(self.trainer.global_step >= 20)
        loss = nn.functional.mse_loss(self.layer(batch[0]) + self.late(batch[0]), batch[1])
        return loss * (self.trainer.global_step != 10)


def test_parameters_without_gradients_frozen_ones_and_zero_gradients() -> None:
    """What has no gradient is passed over, what thaws is clipped with the rest, a zero norm leaves no trace."""
    subject, after = clipping(max_adjustments=0, fallback={"threshold": 0.5}), Norms()
    train(Thawing(), subject, after)
    assert len(after.seen) == 40
    assert after.seen[10] == 0.0
    assert max(after.seen) <= 0.5 + 1e-5
    following = clipping()
    train(Thawing(), following)
    assert following.values()["threshold"] > following.values()["norm"] > 0


class Sparse(pl.LightningModule):
    """An embedding with sparse gradients."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(8, 4, sparse=True)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        rows = batch[0][:, 0].abs().mul(3).long().clamp(max=7)
        return nn.functional.mse_loss(self.embedding(rows).sum(1, keepdim=True), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SparseAdam(self.embedding.parameters(), lr=0.1)


def test_sparse_gradients_train_clipped() -> None:
    """Norms of sparse gradients make the threshold like those of others."""
    subject = clipping()
    train(Sparse(), subject)
    assert subject.values()["threshold"] > subject.values()["norm"] > 0


@pytest.mark.parametrize(
    ("kind", "waiting", "level_known"),
    [
        (EventKind.ROLLED_BACK, 0, True),
        (EventKind.LOSS_WEIGHTS_CHANGED, 0, False),
        (EventKind.BATCH_CHANGED, 0, False),
        (EventKind.RATE_CHANGED, 2, True),
    ],
)
def test_events_of_others_drop_what_no_longer_holds(kind: EventKind, waiting: int, level_known: bool) -> None:
    """A rollback forgets the norms that wait, another loss or batch the history too; the threshold stays."""
    subject = clipping()

    class Announce(Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 10:
                before = subject.brain.limit().threshold
                subject.session.announce(trainer, Event(kind=kind, step=10), source=clipping())
                assert subject.brain.limit().threshold == before

    train(Regression(), subject, Announce(), max_steps=10)
    assert len(subject.extra_state()["steps"]["norms"]) == waiting
    assert (subject.brain.state_dict()["0"]["centre"] is not None) == level_known


def test_a_written_bound_is_an_absolute_one(tmp_path: Path) -> None:
    """Norms of this run are around 10: a written maximum of 2 holds and is called low, the default makes room."""
    written, unwritten = clipping(max_threshold=2.0, journal=str(tmp_path / "journal.jsonl")), clipping()
    train(Regression(), written, max_steps=40)
    train(Regression(), unwritten, max_steps=40)
    notes = [entry["message"] for entry in journal_entries(tmp_path / "journal.jsonl") if entry["event"] == "note"]
    assert notes == ["the usual gradient norm is above max_threshold (2): most steps are clipped"]
    assert written.brain.limit().threshold == 2.0
    assert unwritten.brain.limit().threshold > 10.0


def test_a_written_initial_threshold_holds_or_is_refused() -> None:
    """Alone it moves the bound that nobody wrote; against a bound that somebody wrote it is a contradiction."""
    subject = clipping(initial_threshold=50)
    train(Regression(), subject, max_steps=2)
    assert subject.values()["threshold"] == 50.0
    with pytest.raises(
        ConfigError, match=r"AdaptiveGradientClipping\.initial_threshold: .* to max_threshold \(10\.0\)"
    ):
        clipping(initial_threshold=50, max_threshold=10.0)
    every = {**vars(clipping().settings), "initial_threshold": 50.0}  # as LightningCLI passes them
    assert AdaptiveGradientClipping(**every).brain.limit().threshold == 50.0


@pytest.mark.parametrize("rate", [10.0, 1000.0])
def test_a_run_that_blows_up_in_its_first_steps_does_not_lift_its_own_bound(rate: float) -> None:
    """Room is made from the first norm, which no learning rate has touched."""
    before, subject = Norms(), clipping()
    train(Regression(rate), before, subject)
    assert max(before.seen) > 100 * before.seen[0]
    assert subject.brain.limit().threshold <= 100.001 * before.seen[0]


def test_a_bound_written_for_a_resumed_run_holds_from_its_first_step(tmp_path: Path) -> None:
    """Not only from the next decision on."""
    saver, after = SaveAt(18, tmp_path), Norms()
    first = clipping()
    train(Regression(0.001), first, saver, max_steps=20)
    assert first.brain.limit().threshold > 2.0
    train(Regression(0.001), clipping(max_threshold=2.0, monitoring_frequency=1000), after, checkpoint=saver.path)
    assert len(after.seen) == 22
    assert max(after.seen) <= 2.0 + 1e-5


@pytest.mark.parametrize("strategy", ["FSDPStrategy", "DeepSpeedStrategy", "XLAFSDPStrategy"])
def test_sharding_strategies_are_refused_before_training(strategy: str) -> None:
    """A process that sees a part of the gradients would clip at the norm of that part."""
    made = type(f"My{strategy}", (type(strategy, (), {}),), {})()
    with pytest.raises(ConfigError) as refused:
        clipping().setup(SimpleNamespace(strategy=made), SimpleNamespace(), "fit")  # type: ignore[arg-type]
    assert str(refused.value) == (
        f"AdaptiveGradientClipping: expected whole gradients, or DTensors, in every process, got My{strategy}. "
        "Use ModelParallelStrategy, or disable the automation and use the clipping of the strategy."
    )


def test_an_optimizer_over_whole_and_sharded_parameters_is_refused() -> None:
    """Their norms cannot be taken together."""
    part = type("DTensor", (nn.Parameter,), {"device_mesh": "mesh"})(torch.zeros(2))
    optimizer = torch.optim.SGD([part, nn.Parameter(torch.zeros(2))], lr=0.1)
    with pytest.raises(ConfigError) as refused:
        refuse_optimizers([optimizer], scaled=False, automation="AdaptiveGradientClipping")
    assert str(refused.value) == (
        "AdaptiveGradientClipping: expected parameters of one optimizer that are all whole, or all sharded over the "
        "same device mesh, got SGD over both kinds. "
        "Disable the automation, or shard the whole module (fully_shard on the module itself)."
    )


@pytest.mark.parametrize("skip", ["exact", "zero"])
def test_sharded_parameters_are_clipped_as_whole_ones(skip: str, tmp_path: Path) -> None:
    """FSDP2 on two processes ends with the weights, thresholds and skips of one process that holds everything."""
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(folder.parents[1]), "OMP_NUM_THREADS": "1"}
    run_script(folder / "script_sharded_clipping.py", str(tmp_path), skip, environment=environment)
    whole, *ranks = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "rank0", "rank1"))
    assert ranks[0] == ranks[1]
    assert ranks[0]["skipped"] == whole["skipped"] == 1
    assert ranks[0]["thresholds"] == pytest.approx(whole["thresholds"], rel=1e-4)
    torch.testing.assert_close(torch.tensor(ranks[0]["weights"]), torch.tensor(whole["weights"]), rtol=1e-4, atol=1e-6)


def test_a_far_outlier_is_in_the_journal_with_the_parameter_that_made_it(tmp_path: Path) -> None:
    """One entry for the farthest of a period: the step, what was left, and whose gradient it was."""
    journal = tmp_path / "journal.jsonl"
    train(Faulty({21: 100.0, 22: 1e5, 26: math.nan}), clipping(journal=str(journal)), max_steps=32)
    entries = [entry for entry in journal_entries(journal) if entry["event"] == "outlier"]
    assert [entry["step"] for entry in entries] == [22, 26]
    spike, nan = entries
    assert spike["norm"] > 3 * spike["threshold"] > 3 * spike["left"]
    assert spike["dominant"]["parameter"] in ("layer.weight", "layer.bias")
    assert 0.5 < spike["dominant"]["share"] <= 1
    assert (nan["norm"], nan["left"], nan["dominant"]["share"]) == ("nan", 0.0, None)


def test_two_ranks_clip_at_the_same_threshold(tmp_path: Path) -> None:
    """Every rank sees the reduced gradients and comes to the same threshold, skips and weights."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    run_script(Path(__file__).with_name("script_gradient_clipping.py"), str(tmp_path), environment=environment)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert ranks[0] == ranks[1]
    assert ranks[0]["adjustments"]
    assert ranks[0]["values"]["skipped_steps"] == 1
