"""GradNorm in real runs: what it measures, what it leaves as it is, and where it is refused."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lightning_automations import DynamicBatchSizeOptimizer, DynamicLossScheduling
from lightning_automations.callbacks import term_gradients
from lightning_automations.core.errors import ConfigError
from tests.callbacks.helpers import Regression, SaveAt, make_trainer, train_loader, val_loader
from tests.modes import ways
from tests.modes.table import MODES, Mode
from tests.registry import EPOCHS, Hungry, TwoTerms

SETTINGS = {
    "method": "gradnorm",
    "shared_parameters": "layer",
    "shares": "even",
    "baseline_iterations": 16,
    "adaptation_frequency": 8,
    "gradient_frequency": 4,
}


def gradnorm(**settings: Any) -> DynamicLossScheduling:
    """The automation, with settings under which it acts in a short run."""
    return DynamicLossScheduling(**{**SETTINGS, **settings})


def fit(module: Any, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> Any:
    """Eight epochs of 16 steps."""
    trainer = make_trainer(callbacks, **{"max_epochs": EPOCHS, **options})
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint)
    return trainer


class Heads(TwoTerms):
    """One shared layer, whose learning rate is 0, and two terms of which one pulls a thousand times as hard."""

    loss_weights = {"weak": 1.0, "strong": 1.0}  # noqa: RUF012 - as users write it

    def __init__(self) -> None:
        super().__init__(rate=0.0)
        self.shared = nn.Linear(4, 4)

    def terms(self, batch: Any) -> dict[str, Tensor]:
        """Unweighted."""
        hidden = self.shared(batch[0])
        return {"weak": hidden[:, 0].square().mean(), "strong": 1000 * hidden[:, 1].square().mean()}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weighted(**self.terms(batch))


def mean_norms(module: Heads) -> dict[str, float]:
    """The slow way: a backward pass for each batch and term."""
    norms: dict[str, list[float]] = {}
    for batch in train_loader():
        for name, term in module.terms(batch).items():
            gradients = torch.autograd.grad(term, list(module.shared.parameters()), retain_graph=True)
            norms.setdefault(name, []).append(torch.cat([each.flatten() for each in gradients]).norm().item())
    return {name: sum(values) / len(values) for name, values in norms.items()}


@pytest.mark.parametrize("shared", ["shared", ["shared.weight", "shared.bias"]])
def test_weights_make_the_terms_pull_equally_hard(shared: Any) -> None:
    """Measured in every step, over whole epochs; the calibration alone is enough here, for nothing moves."""
    module = Heads()
    fit(module, gradnorm(shared_parameters=shared, gradient_frequency=1, adaptation_frequency=16, max_weight=1e4))
    norms = mean_norms(module)
    pulls = {name: float(module.loss_weights[name]) * norm for name, norm in norms.items()}
    assert pulls["weak"] == pytest.approx(pulls["strong"], rel=1e-4)
    assert sum(pulls.values()) == pytest.approx(sum(norms.values()), rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_a_run_whose_weights_do_not_change_is_the_plain_one_bit_by_bit(options: dict[str, Any]) -> None:
    """What is measured leaves no trace in the gradients."""
    plain, measured = TwoTerms(), TwoTerms()
    fit(plain, **options)
    automation = gradnorm(dry_run=True, gradient_frequency=1)
    fit(measured, automation, **options)
    assert automation.adjustments
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), measured.parameters(), strict=True))


def test_it_measures_in_one_batch_of_every_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight epochs of 8 steps of two batches each; two terms in every fourth step."""
    calls: list[int] = []

    def counted(term: Tensor, parameters: Any, *, scale: Tensor | None) -> Tensor:
        calls.append(trainer.global_step)
        return torch.ones(())

    monkeypatch.setattr(term_gradients, "term_gradient_norm", counted)
    module, automation = TwoTerms(), gradnorm()
    trainer = make_trainer([automation], max_epochs=EPOCHS, accumulate_grad_batches=2)
    trainer.fit(module, train_loader(), val_loader())
    assert calls == [step for step in range(0, 64, 4) for _ in range(2)]
    assert module._term_graphs is None


class Reads(TorchDispatchMode):
    """Counts the numbers that are read from tensors, each of which would wait for a GPU."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_number_is_read_in_a_measurement() -> None:
    """They are fetched together when a decision is due."""
    module = TwoTerms()
    measured = term_gradients.TermGradients({})
    trainer = make_trainer()
    trainer.strategy.connect(module)
    measured.begin(trainer, module, gradnorm().settings)
    batch = next(iter(train_loader()))
    with Reads() as reads:
        module.layer.weight.new_ones(()).item()
        assert reads.count == 1
        measured.before_batch(module, step=0, frequency=1)
        inputs, targets = batch
        errors = module.layer(inputs) - targets
        module.weighted(squared=errors.square().mean(), absolute=errors.abs().mean())
        measured.before_backward(trainer, module, ["squared", "absolute"])
        assert reads.count == 1
    assert all(value > 0 for name in ("squared", "absolute") for value in measured.take(name))


WAYS = [
    mode
    for mode in MODES
    if "optimization" not in mode.name
    and ("precision" in mode.name or ("=" not in mode.name and "beside" not in mode.name))
]


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@pytest.mark.parametrize("mode", WAYS, ids=str)
def test_it_acts_in_every_way_to_train(mode: Mode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """But for manual optimization."""
    monkeypatch.chdir(tmp_path)
    automation, options = gradnorm(), mode.trainer()
    module = mode.module(TwoTerms)()
    loaders = mode.data()
    trainer = make_trainer([automation, *options.pop("callbacks", [])], **{"max_epochs": EPOCHS, **options})
    trainer.fit(module, *loaders)
    assert automation.adjustments
    assert not automation.retired


def test_norms_do_not_know_the_scale_of_a_gradient_scaler() -> None:
    """Nor what accumulation divides the loss by."""
    scaled = next(mode for mode in MODES if "GradScaler" in mode.name)
    first: list[dict[str, Any]] = []
    for options in ({"precision": "bf16-mixed"}, {**scaled.trainer(), "accumulate_grad_batches": 2}):
        module, automation = Heads(), gradnorm(shared_parameters="shared")
        fit(module, automation, **options)
        first.append(dict(automation.adjustments[0].evidence))
    assert first[0]["gradient_norm"] == pytest.approx(first[1]["gradient_norm"], rel=0.3)


def test_pieces_of_a_batch_that_did_not_fit_are_measured_too() -> None:
    """The first piece stands for the batch."""

    class Both(TwoTerms, Hungry):
        pass

    module, automation = Both(), gradnorm()
    fit(module, automation, DynamicBatchSizeOptimizer())
    assert automation.adjustments
    assert not automation.retired


def test_a_resumed_run_has_the_weights_of_the_one_that_was_saved(tmp_path: Path) -> None:
    """Norms that were measured and not yet used are in the checkpoint."""
    save, whole = SaveAt(37, tmp_path), TwoTerms()
    fit(whole, gradnorm(), save)
    twin = TwoTerms()
    fit(twin, gradnorm(), checkpoint=save.path)
    assert twin.loss_weights == whole.loss_weights
    assert set(
        torch.load(save.path, weights_only=True)["callbacks"]["DynamicLossScheduling"]["extra"]["gradients"]
    ) == {
        "readings",
        "measured_step",
    }


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, None])
def test_a_term_that_is_no_good_at_times(bad: float | None) -> None:
    """Zero, negative, NaN in what is measured, or missing: the run goes on, with finite weights above 0."""

    class Bad(Heads):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            terms = self.terms(batch)
            if self.global_step % 8 == 4:
                strong = terms.pop("strong")
                return self.weighted(**terms, **({} if bad is None else {"strong": bad * strong}))
            return self.weighted(**terms)

    module, automation = Bad(), gradnorm(shared_parameters="shared")
    fit(module, automation)
    assert automation.adjustments
    assert not automation.retired
    assert all(0 < float(weight) < math.inf for weight in module.loss_weights.values())


def test_terms_without_a_gradient_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The module detaches them, and adds them up itself."""

    class Detached(TwoTerms):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.weighted(squared=loss.detach(), absolute=loss.detach())
            return {"loss": loss, "loss_terms": {"squared": loss, "absolute": loss}}

    caplog.set_level(logging.INFO, logger="lightning_automations")
    module = Detached()
    fit(module, gradnorm())
    assert caplog.text.count("no term has a gradient by shared_parameters") == 1
    assert module.loss_weights == TwoTerms.loss_weights


def test_a_measurement_that_fails_retires_the_automation_and_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch cannot go back through reentrant checkpointing in part."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")

    class Reentrant(TwoTerms):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)

        def loss(self, batch: Any) -> Tensor:
            run = checkpoint if self.training else lambda layer, inputs, **_: layer(inputs)
            outputs = run(self.layer, self.first(batch[0]), use_reentrant=True)
            return nn.functional.mse_loss(outputs, batch[1])

    module, automation = Reentrant(), gradnorm(shared_parameters="first")
    trainer = fit(module, automation)
    assert automation.retired
    assert trainer.global_step == 128
    assert module.loss_weights == TwoTerms.loss_weights


class Unmixed(Regression):
    """Has weights and terms, and not the mixin."""

    loss_weights = {"squared": 1.0}  # noqa: RUF012 - as users write it


class Sharded(SingleDeviceStrategy):
    """By its name."""


Sharded.__name__ = "FSDPStrategy"


def frozen() -> TwoTerms:
    """Nothing of the layer is trained."""
    module = TwoTerms()
    module.other = nn.Linear(1, 1)
    module.layer.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    ("make", "shared", "words"),
    [
        (TwoTerms, "layers", "got 'layers'. Did you mean 'layer'?"),
        (TwoTerms, ["layer", "body"], "got 'body'. The module has layer, layer.bias, layer.weight."),
        (TwoTerms, "lay", "got 'lay'"),
        (frozen, "layer", "expected a parameter that is trained, or a part of the module that holds one, got 'layer'"),
        (ways.manual(TwoTerms), "layer", "gradnorm in manual optimization"),
        (Unmixed, "layer", "expected a module with the mixin WeightedLosses, got gradnorm for Unmixed"),
    ],
)
def test_what_cannot_work_is_refused_as_training_starts(make: Callable[[], Any], shared: Any, words: str) -> None:
    """With what would work."""
    with pytest.raises(ConfigError) as caught:
        fit(make(), gradnorm(shared_parameters=shared))
    assert words in str(caught.value)


def test_sharded_parameters_are_refused() -> None:
    """A process holds a part of each only."""
    with pytest.raises(ConfigError, match=r"got gradnorm with sharded parameters \(FSDPStrategy\)"):
        fit(TwoTerms(), gradnorm(), strategy=Sharded(device="cpu"))
