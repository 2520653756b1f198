"""DynamicBatchSizeOptimizer in a run: memory readings, decisions, retirement, failure, resume."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from lightning_automations import DynamicBatchSizeOptimizer
from lightning_automations.core.batch_size import BatchSizeBrain
from tests.callbacks.helpers import ResumableLoader, SaveAt, make_trainer, regression_data, val_loader, weights
from tests.callbacks.memory_helpers import Limited, MadeUpMemory, loader, trained


def measuring(
    module: Limited, share: Callable[[int], float] = lambda size: 0.1 + 0.05 * size, **settings: Any
) -> DynamicBatchSizeOptimizer:
    """The automation, deciding at every second step, in a memory of which each sample takes so much."""
    automation = DynamicBatchSizeOptimizer(**{"adjustment_frequency": 2, **settings})
    automation._make_probe = lambda _: MadeUpMemory(share, module.sizes, before=share(0))
    return automation


def test_batches_are_split_before_memory_runs_out() -> None:
    """Above the target the pieces shrink straight to the predicted size, and the weights do not notice."""
    plain, module = Limited(), Limited()
    automation = measuring(module)
    trained(plain, batch_size=20, samples=200, precision="64-true")
    trained(module, automation, batch_size=20, samples=200, precision="64-true")
    # 0.1 + 0.05 x 14 = 0.8; a batch of 20 is cut into two pieces of 10 rather than 14 and 6.
    assert [(item.parameter, item.old, item.new, item.step) for item in automation.adjustments] == [
        ("micro_batch_size", 20, 14, 2)
    ]
    assert automation.adjustments[0].reason == "memory_above_target"
    assert module.sizes[:4] == [20, 20, 10, 10]
    assert set(module.sizes[2:]) == {10}
    assert all(torch.allclose(a, b) for a, b in zip(weights(module), weights(plain), strict=True))


def test_pieces_grow_again_when_memory_is_given_back() -> None:
    """Below the band the pieces go back up, to the whole batch where it fits."""
    neighbour = {"share": 0.3}

    class Leaving(Limited):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            neighbour["share"] = 0.3 if self.trainer.global_step < 20 else 0.0

    module = Leaving()
    automation = measuring(module, lambda size: 0.1 + neighbour["share"] + 0.03 * size)
    trained(module, automation, batch_size=20, samples=400, max_epochs=3)
    assert [(item.new, item.reason.value) for item in automation.adjustments] == [
        (14, "memory_above_target"),
        (20, "memory_below_target"),
    ]
    assert module.sizes[-1] == 20


def test_a_run_in_the_band_is_left_alone() -> None:
    """No change, no split: the default settings train as plain Lightning does."""
    plain, module = Limited(), Limited()
    automation = measuring(module, lambda size: 0.82)
    trained(plain)
    trained(module, automation)
    assert automation.adjustments == []
    assert module.sizes == plain.sizes
    assert all(torch.equal(a, b) for a, b in zip(weights(module), weights(plain), strict=True))


def test_memory_of_validation_is_no_matter_of_the_training_batch() -> None:
    """A peak in validation does not shrink the pieces of training."""

    class Validated(Limited):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.sizes.append(1000)

        def on_validation_end(self) -> None:
            self.sizes = self.sizes[:]

    module = Validated()
    automation = measuring(module, lambda size: 0.9 if size == 1000 else 0.82)
    trainer = make_trainer([automation], max_epochs=2, val_check_interval=1, num_sanity_val_steps=0)
    trainer.fit(module, loader(10, 40), val_loader())
    assert 1000 in module.sizes
    assert automation.adjustments == []


def test_values_are_logged_under_the_same_names_from_the_first_step_on() -> None:
    """Sizes and the share of memory, in callback_metrics at the start and at the end."""
    seen: list[dict[str, float]] = []

    class Reader(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            names = ("micro_batch_size", "batch_size", "memory_share")
            prefix = "automation/dynamic_batch_size_optimizer"
            seen.append({name: float(trainer.callback_metrics[f"{prefix}/{name}"]) for name in names})

    module = Limited()
    trained(module, measuring(module), Reader(), batch_size=20, samples=200)
    assert seen[0]["micro_batch_size"] == seen[0]["batch_size"] == 20
    assert math.isnan(seen[0]["memory_share"])
    assert seen[-1] == pytest.approx({"micro_batch_size": 10, "batch_size": 20, "memory_share": 0.6})


def test_without_a_reading_of_memory_only_errors_count() -> None:
    """Where memory cannot be read nothing is decided, and an error is survived all the same."""
    module, automation = Limited(3), DynamicBatchSizeOptimizer(adjustment_frequency=1)
    automation._make_probe = lambda _: None
    trainer = trained(module, automation)
    assert {item.reason.value for item in automation.adjustments} <= {"out_of_memory", "no_error_since"}
    assert math.isnan(trainer.callback_metrics["automation/dynamic_batch_size_optimizer/memory_share"])


def test_the_real_memory_of_the_host_is_read() -> None:
    """A CPU run sees the memory of the machine as its device."""
    module, automation = Limited(), DynamicBatchSizeOptimizer(adjustment_frequency=1)
    trainer = trained(module, automation)
    assert 0 < float(trainer.callback_metrics["automation/dynamic_batch_size_optimizer/memory_share"]) < 2


def test_a_size_between_is_tried_after_a_while_and_never_the_one_that_failed() -> None:
    """After ten decisions without an error, half the way up, where that makes fewer pieces; what failed stays out."""
    module, automation = Limited(11), DynamicBatchSizeOptimizer(adjustment_frequency=1)
    automation._make_probe = lambda _: None
    trained(module, automation, batch_size=32, samples=320, max_epochs=4)
    # 32 samples in pieces of at most 12 are three of 11; up to 15 they are the same three, so nothing more is tried.
    assert [(item.old, item.new, item.reason.value) for item in automation.adjustments] == [
        (32, 16, "out_of_memory"),
        (16, 8, "out_of_memory"),
        (8, 12, "no_error_since"),
    ]
    assert module.failures == 2


def test_the_try_that_failed_says_nothing_of_the_size_that_fits() -> None:
    """Its peak is in the same period; pieces of 8 need 0.74 of the memory, and stay."""
    module = Limited(15)
    automation = measuring(module, lambda size: 0.1 + 0.08 * size, adjustment_frequency=4)
    trained(module, automation, batch_size=16, samples=160, max_epochs=1)
    assert [(item.old, item.new, item.reason.value) for item in automation.adjustments] == [(16, 8, "out_of_memory")]


def test_the_budget_leads_to_the_fallback() -> None:
    """After the last adjustment the pieces stay at the smaller of the fallback and the largest size that fit."""
    module = Limited()
    automation = measuring(module, max_adjustments=1, fallback={"batch_size": 4})
    trained(module, automation, batch_size=20, samples=200)
    assert automation.retired
    assert module.sizes[2:] == [4] * (len(module.sizes) - 2)
    assert len(automation.adjustments) == 1


def test_a_run_that_never_needed_pieces_keeps_its_batches_on_retirement() -> None:
    """The fallback is for runs in which memory demanded a split."""
    module = Limited()
    automation = measuring(module, max_adjustments=0, fallback={"batch_size": 4})
    trained(module, automation, batch_size=20, samples=200)
    assert automation.retired
    assert set(module.sizes) == {20}


@pytest.mark.parametrize("method", ["observe", "piece_size", "recover"])
def test_a_failure_inside_retires_the_automation_and_training_ends(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of ours ends our work, not the user's; an error that cannot be handled then passes as it is."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(BatchSizeBrain, method, broken)
    module = Limited(3) if method == "recover" else Limited()
    automation = measuring(module)
    if method == "recover":
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            trained(module, automation)
    else:
        trainer = trained(module, automation)
        assert trainer.global_step == 16
    assert automation.retired
    assert any("a bug" in str(record.exc_info) for record in caplog.records if record.exc_info)


@pytest.mark.parametrize("step", [3, 5, 6, 13])
def test_a_resumed_run_makes_the_same_adjustments(step: int, tmp_path: Path) -> None:
    """Stopped between two decisions, at one, and with the sizes settled; each period's peak is at its start."""

    class Falling(Limited):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            output = super().training_step(batch, batch_idx)
            self.sizes[-1] -= self.trainer.global_step % 4
            return output

    def run(module: Limited, *callbacks: Any, **options: Any) -> DynamicBatchSizeOptimizer:
        automation = measuring(module, adjustment_frequency=4)
        data = ResumableLoader(regression_data(200), batch_size=20)
        trainer = make_trainer([automation, *callbacks], max_epochs=2)
        trainer.fit(module, data, **options)
        return automation

    whole, saving, resumed = Falling(), SaveAt(step, tmp_path), Falling()
    first = run(whole, saving)
    second = run(resumed, ckpt_path=saving.path)
    assert first.adjustments
    assert second.adjustments == first.adjustments
    assert second.brain.state == first.brain.state
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))


def test_a_resumed_run_remembers_what_did_not_fit(tmp_path: Path) -> None:
    """The size that fits and the ceiling come back: no second error."""
    whole, saving = Limited(3), SaveAt(4, tmp_path)
    make_trainer([DynamicBatchSizeOptimizer(), saving], max_epochs=2).fit(whole, loader(10, 40))
    resumed, automation = Limited(3), DynamicBatchSizeOptimizer()
    make_trainer([automation], max_epochs=2).fit(resumed, loader(10, 40), ckpt_path=saving.path)
    assert (whole.failures, resumed.failures) == (2, 0)
    assert automation.brain.state.ceiling == 5


def test_state_goes_through_json() -> None:
    """A checkpoint holds plain values."""
    module = Limited(3)
    automation = measuring(module)
    trained(module, automation)
    state = json.loads(json.dumps(automation.state_dict()))
    other = DynamicBatchSizeOptimizer()
    other.load_state_dict(state)
    assert other.brain.state == automation.brain.state
    assert other.adjustments == automation.adjustments


def test_a_dry_run_decides_and_changes_nothing() -> None:
    """The same decision as in a real run, once, and weights bit-identical to plain Lightning's."""
    plain, module = Limited(), Limited()
    automation = measuring(module, dry_run=True)
    trained(plain, batch_size=20, samples=200)
    trained(module, automation, batch_size=20, samples=200)
    assert [(item.old, item.new) for item in automation.adjustments] == [(20, 14)]
    assert set(module.sizes) == {20}
    assert all(torch.equal(a, b) for a, b in zip(weights(module), weights(plain), strict=True))
