import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.nn.utils import get_total_norm

from benchmarks.methods import method_named
from benchmarks.methods.clipping import SkipNonFinite
from benchmarks.methods.method import Method, RunSetup
from benchmarks.methods.optimizers import AveragedWhereJudged
from benchmarks.methods.rates import SteppedAtValidation
from tests.benchmarks.tiny_runs import (
    OPTIMIZERS,
    SETUP,
    STEPS,
    STRUCK,
    TASK,
    VALIDATION_INTERVAL,
    StepLog,
    fitted,
    flat,
)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_a_skipped_step_leaves_weights_and_momentum_as_they_were(optimizer: str, fault: float) -> None:
    """The skip that every rival has is a true one: not even weight decay or a step count goes on."""
    log = StepLog()
    method = Method(name="", source="", studies=frozenset(), callbacks=lambda _: [SkipNonFinite()])
    fitted(method, replace(SETUP, optimizer=optimizer), {STRUCK: fault}, also=[log])
    kept = [flat(before) == flat(after) for before, after in zip(log.before, log.after, strict=True)]
    assert kept == [step == STRUCK for step in range(STEPS)]
    assert [norm is None for norm in log.norms] == kept


def test_a_clipper_is_not_told_of_a_skipped_step() -> None:
    """One NaN would stay in the history of a clipper for good."""
    norms: list[float] = []

    def make(module: pl.LightningModule) -> Callable[[], object]:
        return lambda: norms.append(get_total_norm([p.grad for p in module.parameters() if p.grad is not None]).item())

    method = Method(name="", source="", studies=frozenset(), callbacks=lambda _: [SkipNonFinite(make)])
    fitted(method, SETUP, {STRUCK: math.nan})
    assert len(norms) == STEPS - 1
    assert all(map(math.isfinite, norms))


def test_clip_and_skip_does_both() -> None:
    """A gradient that is too long has norm 1 when it reaches the optimizer, a short one its own, a NaN is none."""
    short, long = 3, 7
    log, plain = StepLog(), StepLog()
    factors = {short: 1e-3, long: 1e4, STRUCK: math.nan}
    fitted(method_named("clip 1.0, skip"), SETUP, factors, also=[log])
    assert log.norms[long] == pytest.approx(1, abs=1e-4)
    assert log.norms[STRUCK] is None
    assert all(norm is None or norm < 1 + 1e-4 for norm in log.norms)
    fitted(method_named("plain"), SETUP, factors, also=[plain])
    assert log.norms[short] == pytest.approx(plain.norms[short], rel=0.1)


def test_cosine_anneals_its_own_tuned_rate_to_zero() -> None:
    """The rate of the first step is that tuned with a cosine, and the last steps are hardly any."""
    log = StepLog()
    fitted(method_named("cosine"), SETUP, {}, also=[log])
    assert log.rates[0] == SETUP.cosine_rate
    assert log.rates == sorted(log.rates, reverse=True)
    assert 0 < log.rates[-1] < 0.01 * SETUP.cosine_rate
    assert log.after[-1][1]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-12)


def test_a_plateau_scheduler_is_given_the_loss_of_every_validation() -> None:
    """Epochs may be shorter than the interval between validations, and the loss is that of this validation."""
    given: list[float] = []
    logged: list[float] = []

    class Recording:
        def step(self, metrics: float) -> None:
            given.append(metrics)

    class Logged(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            inputs, targets = TASK.splits().validation.tensors
            with torch.no_grad():
                logged.append(TASK.loss(pl_module(inputs), targets).item())

    method = Method(
        name="", source="", studies=frozenset(), callbacks=lambda _: [SteppedAtValidation(lambda _: Recording())]
    )
    fitted(method, SETUP, {}, also=[Logged()])
    assert len(given) == STEPS // VALIDATION_INTERVAL
    assert given == pytest.approx(logged)


def test_a_plateau_lowers_the_rate() -> None:
    """ReduceLROnPlateau changes the rate of the optimizer that trains."""
    log = StepLog()
    method = replace(
        method_named("ReduceLROnPlateau"),
        callbacks=lambda _: [
            SteppedAtValidation(lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0))
        ],
    )
    fitted(method, SETUP, {STRUCK: math.nan}, also=[log])
    assert log.rates[STRUCK] == SETUP.rate
    assert log.rates[-1] == pytest.approx(SETUP.rate / 10)


class _Averaging(torch.optim.SGD):
    """Tells when it was switched, as Schedule-Free optimizers are."""

    told: list[str]

    def train(self) -> None:
        self.told.append("train")

    def eval(self) -> None:
        self.told.append("eval")


def test_averaged_weights_are_in_place_for_validation_and_at_the_end() -> None:
    """The test score is that of the averaged weights, and each step is taken with the others."""
    made: list[_Averaging] = []

    def optimizer(parameters: Any, setup: RunSetup) -> _Averaging:
        made.append(_Averaging(parameters, lr=setup.rate))
        made[0].told = []
        return made[0]

    method = Method(
        name="",
        source="",
        studies=frozenset(),
        callbacks=lambda _: [AveragedWhereJudged()],
        optimizer=optimizer,
    )
    fitted(method, SETUP, {})
    validations = STEPS // VALIDATION_INTERVAL
    assert made[0].told == ["train", *["eval", "train"] * validations, "eval"]
