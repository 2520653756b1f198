"""What happens where automations meet: each rule as it is, and what comes of it where the rule is taken out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from lightning_automations import (
    AdaptiveGradientClipping,
    DynamicBatchSizeOptimizer,
    DynamicLossScheduling,
    IntelligentEarlyStopping,
    IntelligentLearningRateScheduler,
)
from lightning_automations.callbacks import loader_changes, run_parts
from lightning_automations.core.decision import Reason
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader
from tests.registry import TwoTerms
from tests.requirements import has_weight_averaging

OPEN = {"monitor_metric": "val/loss", "min_epochs": 0, "min_iterations": 0, "warmup_iterations": 0}
LOST = {Reason.NON_FINITE, Reason.DIVERGENCE}


def fit(module: Any, *callbacks: Any, **options: Any) -> Any:
    """So many steps with a validation after each 16."""
    trainer = make_trainer(callbacks, **{"max_epochs": 20, **options})
    trainer.fit(module, train_loader(), val_loader())
    return trainer


def deaf(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> None:
    """An automation that hears nothing of what the others do."""
    monkeypatch.setattr(kind, "hear", lambda *_: None)


def reasons(automation: Any) -> set[Reason]:
    """Why it changed something."""
    return {item.reason for item in automation.adjustments}


class StruckBeforeValidation(Callback):
    """The weights become NaN in the last step before two validations in a row that come in mid-epoch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step in (100, 104):
            with torch.no_grad():
                pl_module.layer.weight.fill_(math.nan)


def trial_takes_its_time(rule: bool, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Rule 4: a metric that stands still while rates are tried is no plateau."""
    if not rule:
        monkeypatch.setattr(IntelligentLearningRateScheduler, "tries_rates", False)
    stopper = IntelligentEarlyStopping(patience=16, criteria=["plateau"], **OPEN)
    fit(Regression(rate=1e-9), IntelligentLearningRateScheduler(raise_rate=False), stopper, val_check_interval=2)
    return stopper.adjustments[0].step > 40


def a_run_that_will_come_back_is_not_stopped(rule: bool, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Rule 1: two validations that are NaN come before the learning-rate automation has seen enough losses."""
    if not rule:
        monkeypatch.setattr(IntelligentLearningRateScheduler, "can_bring_back", False)
    stopper = IntelligentEarlyStopping(patience=10_000, criteria=["non_finite"], **OPEN)
    rates = IntelligentLearningRateScheduler(snapshot_interval_steps=5)
    fit(Regression(), rates, stopper, StruckBeforeValidation(), val_check_interval=4)
    assert bool(reasons(rates) & LOST) is rule
    return not stopper.adjustments


class HeavierLater(TwoTerms):
    """A term grows a thousandfold half-way, and its weight is brought down a thousandfold."""

    loss_weights = {"squared": 1.0, "absolute": 1.0}  # noqa: RUF012 - as users write it

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        terms = super().training_step(batch, batch_idx)["loss_terms"]
        return self.weighted(squared=self.loss(batch), absolute=terms["absolute"])


def a_change_of_weights_is_no_divergence(rule: bool, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Rule 5: after it, the learning-rate automation measures the loss anew."""
    if not rule:
        deaf(monkeypatch, IntelligentLearningRateScheduler)

    class Raises(Callback):
        """As if loss scheduling found the weights a thousand times too low."""

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 160:
                pl_module.loss_weights = {name: 1000 * weight for name, weight in pl_module.loss_weights.items()}
                losses._announce(trainer)

    rates = IntelligentLearningRateScheduler(find_start=False, raise_rate=False, anneal_share=0.0)
    losses = DynamicLossScheduling(baseline_iterations=10_000)
    module = HeavierLater()
    module.rate = 1e-5  # so low that a loss of a thousand times the size does not blow up by itself
    fit(module, rates, losses, Raises())
    return not reasons(rates) & LOST


def a_schedule_made_for_the_run_blocks_growth(rule: bool, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Rule 6: OneCycle counts on as many steps as were estimated."""

    class OneCycle(Regression):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
            steps = int(self.trainer.estimated_stepping_batches)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    if not rule:
        monkeypatch.setattr(loader_changes, "growth_obstacle", lambda *_: None)
    sizes = DynamicBatchSizeOptimizer(effective_batch="grow", adjustment_frequency=4)
    fit(OneCycle(), sizes)
    return not any(item.parameter == "batch_size" for item in sizes.adjustments)


RULES = (
    trial_takes_its_time,
    a_run_that_will_come_back_is_not_stopped,
    a_change_of_weights_is_no_divergence,
    a_schedule_made_for_the_run_blocks_growth,
)


@pytest.mark.parametrize("meeting", RULES, ids=lambda meeting: meeting.__name__)
def test_a_rule_holds_and_is_needed(meeting: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is as it should be, and is not where the rule is taken out."""
    assert meeting(True, monkeypatch)
    assert not meeting(False, monkeypatch)


@has_weight_averaging
@pytest.mark.parametrize("rule", [True, False])
def test_a_rollback_takes_averaged_weights_along(rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One NaN that Lightning's average has taken in would stay in it for ever."""
    if not rule:
        monkeypatch.setattr(run_parts, "averaged_models", lambda _: [])
    average = pl.callbacks.EMAWeightAveraging(decay=0.9)
    clipping = AdaptiveGradientClipping(lost_after_steps=None)
    rates = IntelligentLearningRateScheduler(snapshot_interval_steps=5)
    module = Regression()
    fit(module, average, rates, clipping, StruckBeforeValidation())
    assert bool(torch.isfinite(module.layer.weight).all()) is rule
