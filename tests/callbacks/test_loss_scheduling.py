"""DynamicLossScheduling in real runs: what it needs of a module, what it changes, and what it tells the others."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from lightning_automations import (
    DynamicBatchSizeOptimizer,
    DynamicLossScheduling,
    IntelligentLearningRateScheduler,
    WeightedLosses,
)
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.events import Event, EventKind
from tests.callbacks.helpers import Regression, SaveAt, make_trainer, train_loader, val_loader
from tests.registry import EPOCHS, TwoTerms

SETTINGS = {"baseline_iterations": 16, "adaptation_frequency": 8}


def fit(module: Any, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> Any:
    """Eight epochs of 16 steps."""
    trainer = make_trainer(callbacks, **{"max_epochs": EPOCHS, **options})
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint)
    return trainer


class Held(TwoTerms):
    """Two terms whose sizes do not move: the weights follow from them alone."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        nothing = loss - loss.detach()
        return self.weighted(squared=4.0 + nothing, absolute=1.0 + nothing)


class Parameters(WeightedLosses, Regression):
    """Weights in a ParameterDict; a class with ``loss_weights`` of its own would hide it."""

    training_step = Held.training_step

    def __init__(self) -> None:
        super().__init__()
        weights = {"squared": torch.tensor(1.0), "absolute": torch.tensor(0.2)}
        self.loss_weights = nn.ParameterDict(weights).requires_grad_(False)  # type: ignore[assignment]


class Buffers(Held):
    """Weights in buffers, which a checkpoint keeps by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("squared", torch.tensor(1.0))
        self.register_buffer("absolute", torch.tensor(0.2))
        self.loss_weights = {"squared": self.squared, "absolute": self.absolute}  # type: ignore[dict-item]


class Vector(Regression):
    """All weights in one buffer, in the order of the terms; in some steps one of them is missing."""

    def __init__(self, *, missing: bool = False) -> None:
        super().__init__()
        self.missing = missing
        self.register_buffer("loss_weights", torch.tensor([1.0, 0.2]))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        nothing = loss - loss.detach()
        terms = {"squared": 4.0 + nothing, "absolute": 1.0 + nothing}
        loss = (self.loss_weights * torch.stack([*terms.values()])).sum()
        if self.missing and batch_idx % 2:
            terms = {"absolute": terms["absolute"]}
        return {"loss": loss, "loss_terms": {name: term.detach() for name, term in terms.items()}}


@pytest.mark.parametrize("kind", [Held, Parameters, Buffers, Vector, lambda: Vector(missing=True)])
def test_weights_of_any_kind_are_calibrated(kind: Callable[[], Any]) -> None:
    """Shares of 1 to 0.2 for sizes of 4 and 1, and a loss of 4.2 as before."""
    module, automation = kind(), DynamicLossScheduling(**SETTINGS)
    fit(module, automation)
    held = module.loss_weights
    squared, absolute = held if isinstance(held, torch.Tensor) else (held["squared"], held["absolute"])
    squared, absolute = float(squared), float(absolute)
    assert squared * 4.0 / absolute == pytest.approx(5.0, rel=1e-3)
    assert squared * 4.0 + absolute == pytest.approx(4.2, rel=1e-3)
    assert [item.step for item in automation.adjustments] == [16, 16]


class OfProperty(Held):
    """A property that gives the mapping that is held."""

    def __init__(self) -> None:
        super().__init__()
        self.own = {"squared": 1.0, "absolute": 0.2}

    @property
    def loss_weights(self) -> dict[str, float]:  # type: ignore[override]
        """As they are held."""
        return self.own


class Settable(OfProperty):
    """A property that gives a copy, and takes one."""

    @property
    def loss_weights(self) -> dict[str, float]:
        """A copy."""
        return dict(self.own)

    @loss_weights.setter
    def loss_weights(self, weights: dict[str, float]) -> None:
        self.own = weights


class Joined(OfProperty):
    """A property that makes a tensor of what is held."""

    @property
    def loss_weights(self) -> torch.Tensor:  # type: ignore[override]
        """Another one at each reading."""
        return torch.tensor([*self.own.values()])


class Copied(OfProperty):
    """A property that gives a copy: what is written to it is lost."""

    @property
    def loss_weights(self) -> dict[str, float]:
        """A copy."""
        return dict(self.own)


@pytest.mark.parametrize("kind", [OfProperty, Settable])
def test_weights_behind_a_property_are_changed(kind: Callable[[], Any]) -> None:
    """By its setter, or in the mapping that it gives."""
    module = kind()
    fit(module, DynamicLossScheduling(**SETTINGS))
    assert module.own["squared"] * 4.0 / module.own["absolute"] == pytest.approx(5.0, rel=1e-3)


@pytest.mark.parametrize("kind", [Copied, Joined])
def test_weights_that_cannot_be_written_are_left_alone(
    kind: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And that is told."""
    caplog.set_level(logging.INFO, logger="lightning_automations")
    module, automation = kind(), DynamicLossScheduling(**SETTINGS)
    module.weighted = lambda **terms: {"loss": sum(terms.values()), "loss_terms": terms}
    fit(module, automation)
    assert caplog.text.count("no loss_weights that can be written") == 1
    assert not automation.adjustments


@pytest.mark.parametrize(
    ("weight", "got"),
    [
        (torch.tensor(1), r"a tensor of shape \(\) and type torch.int64"),
        (torch.ones(2), r"a tensor of shape \(2,\) and type torch.float32"),
        (math.nan, "nan"),
        (torch.tensor(math.inf), "inf"),
        ("1.0", "'1.0'"),
        (nn.Parameter(torch.tensor(1.0)), "a parameter that is trained"),
    ],
)
def test_what_cannot_be_a_weight_is_refused_at_the_start(weight: Any, got: str) -> None:
    """Integers would lose their fraction; the others have no meaning."""
    module = Held()
    module.loss_weights = {"squared": weight, "absolute": 0.2}
    expected = r"loss_weights.squared: expected a finite number, or a floating-point tensor of one, got "
    with pytest.raises(ConfigError, match=expected + got):
        fit(module, DynamicLossScheduling(**SETTINGS))


@pytest.mark.parametrize("limit", [{}, {"max_adjustments": 1, "fallback": {"squared": 0.3}}])
@pytest.mark.parametrize("kind", [Parameters, Buffers])
def test_weights_that_went_back_with_the_network_are_written_again(
    kind: Callable[[], Any], limit: dict[str, Any]
) -> None:
    """What the automation says holds, holds; also the fallback's weights after it has retired."""
    module, automation = kind(), DynamicLossScheduling(**SETTINGS, **limit)

    class GoesBack(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 40:
                with torch.no_grad():
                    module.loss_weights["squared"].fill_(1.0)
                automation.receive(trainer, Event(kind=EventKind.ROLLED_BACK, step=40))

    fit(module, automation, GoesBack(), max_steps=41)
    assert automation.adjustments
    assert automation.retired is bool(limit)
    assert automation.brain.weights["squared"] == 0.3 or not limit
    assert float(module.loss_weights["squared"]) == pytest.approx(automation.brain.weights["squared"])


def test_the_weights_of_the_class_are_left_alone() -> None:
    """Another module of the same class starts with its own."""
    fit(Held(), DynamicLossScheduling(**SETTINGS))
    assert Held().loss_weights == {"squared": 1.0, "absolute": 0.2}


class LogsItsTerms(Regression):
    """Has weights, and logs its terms instead of returning them."""

    def __init__(self) -> None:
        super().__init__()
        self.loss_weights = {"one": 1.0, "two": 1.0}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("terms/one", 8.0)
        if batch_idx % 8 != 7:
            self.log("terms/two", 0.5 if batch_idx % 8 == 6 else 2.5)
        return self.loss(batch) * self.loss_weights["one"]


def test_terms_may_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Named in ``terms``: the mean of what was logged since the last decision counts. A name in vain is told once."""
    caplog.set_level(logging.INFO, logger="lightning_automations")
    names = {"one": "terms/one", "two": "terms/two"}
    module = LogsItsTerms()
    fit(module, DynamicLossScheduling(terms=names, **SETTINGS))
    assert module.loss_weights["two"] / module.loss_weights["one"] == pytest.approx(8.0 / ((6 * 2.5 + 0.5) / 7))
    assert "has been read" not in caplog.text

    module = LogsItsTerms()
    fit(module, DynamicLossScheduling(terms={**names, "two": "terms/too"}, **SETTINGS))
    assert module.loss_weights == {"one": 1.0, "two": 1.0}
    assert caplog.text.count("no value of two but 0 has been read") == 1


def test_a_bound_that_keeps_a_share_from_being_reached_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The sizes 4 and 1 would need a weight of 2.1 for the second."""
    caplog.set_level(logging.INFO, logger="lightning_automations")
    fit(Held(), DynamicLossScheduling(shares="even", **SETTINGS))
    assert "come to its bound" not in caplog.text
    fit(Held(), DynamicLossScheduling(shares="even", max_weight=1.5, **SETTINGS))
    assert caplog.text.count("the weight of absolute has come to its bound") == 1


class Without(Held):
    """Gives something else than a number for a term in every other step."""

    def __init__(self, instead: Any) -> None:
        super().__init__()
        self.instead = instead

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        output = super().training_step(batch, batch_idx)
        return {**output, "loss_terms": {**output["loss_terms"], "absolute": self.instead}} if batch_idx % 2 else output


def test_a_term_that_is_none_is_missing_in_that_step() -> None:
    """Which is no reason to give up."""
    with_none, whole = Without(None), Held()
    fit(with_none, DynamicLossScheduling(**SETTINGS))
    fit(whole, DynamicLossScheduling(**SETTINGS))
    assert with_none.loss_weights == whole.loss_weights


@pytest.mark.parametrize(
    ("instead", "got"),
    [
        (torch.ones(3), r"a tensor of shape \(3,\), torch.float32"),
        (torch.tensor(1 + 2j), r"a tensor of shape \(\), torch.complex64"),
        ("x", "'x'"),
    ],
)
def test_a_term_that_is_no_number_is_named(instead: Any, got: str) -> None:
    """By its place in what the step returns."""
    with pytest.raises(TypeError, match=r"loss_terms.absolute: expected a real number or a tensor of one, got " + got):
        fit(Without(instead), DynamicLossScheduling(on_error="raise", **SETTINGS))


def test_a_module_without_weights_or_terms_is_told_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """The first is left alone from the start, the second when a decision is due."""
    caplog.set_level(logging.INFO, logger="lightning_automations")
    fit(Regression(), DynamicLossScheduling(**SETTINGS))
    assert caplog.text.count("the module has no loss_weights that can be written") == 1

    class Silent(Regression):
        loss_weights = {"one": 1.0}  # noqa: RUF012

    fit(Silent(), DynamicLossScheduling(**SETTINGS))
    assert caplog.text.count("no term has been read") == 1


@pytest.mark.parametrize("setting", [{"terms": {"squarred": "x"}}, {"fallback": {"squarred": 1.0}}])
def test_a_term_that_the_module_does_not_have_is_refused_at_the_start(setting: dict[str, Any]) -> None:
    """With those that it has."""
    with pytest.raises(ConfigError, match=r"a term of the module's loss_weights \(squared, absolute\), got 'squarred'"):
        fit(Held(), DynamicLossScheduling(**setting))


def test_a_used_up_budget_leads_to_the_fallback() -> None:
    """The weights of the start, and those that the fallback names."""
    module, automation = Held(), DynamicLossScheduling(max_adjustments=1, fallback={"absolute": 0.5}, **SETTINGS)
    fit(module, automation)
    assert automation.retired
    assert module.loss_weights == {"squared": 1.0, "absolute": 0.5}


def test_a_resumed_run_has_the_weights_of_the_one_that_was_saved(tmp_path: Path) -> None:
    """Numbers are no part of Lightning's checkpoint: they come from the automation's state."""
    save, whole = SaveAt(37, tmp_path), TwoTerms()
    fit(whole, DynamicLossScheduling(**SETTINGS), save)
    twin = TwoTerms()
    fit(twin, DynamicLossScheduling(**SETTINGS), checkpoint=save.path)
    assert twin.loss_weights == whole.loss_weights


class Jumps(TwoTerms):
    """One term is a hundred times too heavy: its weight is brought down, and the loss with it."""

    loss_weights = {"squared": 1.0, "absolute": 1.0}  # noqa: RUF012

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        terms = super().training_step(batch, batch_idx)["loss_terms"]
        squared = self.loss(batch)
        scale = 1.0 if self.global_step < 60 else 100.0
        return self.weighted(squared=squared, absolute=terms["absolute"] * scale)


def test_a_change_of_weights_is_no_divergence() -> None:
    """The learning-rate automation is told, and does not take the new level of the loss for one."""
    rates = IntelligentLearningRateScheduler(find_start=False, raise_rate=False, anneal_share=0.0)
    fit(Jumps(), rates, DynamicLossScheduling(adaptation_rate=0.5, momentum=0.0, **SETTINGS))
    assert "divergence" not in {item.reason for item in rates.adjustments}


def test_the_mixin_says_which_term_has_no_weight() -> None:
    """And needs at least one."""
    module = TwoTerms()
    with pytest.raises(ValueError, match=r"terms of loss_weights \(squared, absolute\), got \['edges'\]"):
        module.weighted(edges=torch.tensor(1.0))
    with pytest.raises(ValueError, match="got none"):
        module.weighted()
    with pytest.raises(ValueError, match=r"'squared': 'float', 'absolute': 'a tensor of shape \(1,\)'"):
        module.weighted(squared=0.0, absolute=torch.zeros(1))  # type: ignore[arg-type]
    assert issubclass(TwoTerms, WeightedLosses)


class RunsOut(TwoTerms):
    """Memory runs out when the terms are known, in batches of more than two samples."""

    def __init__(self) -> None:
        super().__init__()
        self.left_behind: list[int] = []
        self.failures = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.left_behind.append(len(self._term_graphs or ()))
        output = super().training_step(batch, batch_idx)
        if len(batch[0]) > 2:
            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return output


def test_a_try_that_failed_leaves_no_graph_behind() -> None:
    """Its terms, asked for by gradnorm, would hold the memory that the next try needs."""
    module = RunsOut()
    gradnorm = DynamicLossScheduling(method="gradnorm", shared_parameters="layer", **SETTINGS)
    fit(module, DynamicBatchSizeOptimizer(), gradnorm, max_steps=2)
    assert module.failures > 0
    assert not any(module.left_behind)
