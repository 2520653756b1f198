"""GradNorm on numbers: against the paper's own gradient, and what it makes of terms that are no good."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.errors import ConfigError
from lightning_automations.core.loss_scheduling import LossSchedulingBrain
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings
from lightning_automations.core.loss_weighting import GradNorm, Sizes

positive = st.floats(1e-6, 1e6)
three = st.fixed_dictionaries(dict.fromkeys("abc", positive))


def paper(sizes: Sizes, *, rate: float, asymmetry: float) -> dict[str, float]:
    """Algorithm 1 of the paper, with autograd; the weight is the exponential of what is learned.

    Equation 1: the norm of w_i L_i is to be the mean norm times r_i ** alpha, r_i the term's loss ratio over the mean
    loss ratio. Equation 2: the sum of the absolute distances, whose targets count as constants. Here the distance is in
    units of the mean norm, and a weight that the step would carry past its target ends there.
    """
    names = list(sizes.now)
    logs = torch.tensor([math.log(sizes.weights[name]) for name in names], dtype=torch.float64, requires_grad=True)
    norms = logs.exp() * torch.tensor([sizes.norms[name] for name in names], dtype=torch.float64)
    ratios = torch.tensor([sizes.now[name] / sizes.start[name] for name in names], dtype=torch.float64)
    targets = (norms.mean() * (ratios / ratios.mean()) ** asymmetry).detach()
    targets *= norms.detach().mean() / targets.mean()
    loss = (norms - targets).abs().sum() / norms.mean().detach()
    (gradient,) = torch.autograd.grad(loss, logs)
    stepped = logs.detach() - rate * gradient
    at_target = logs.detach() + (targets / norms.detach()).log()
    passed = (stepped - at_target) * (logs.detach() - at_target) < 0
    weights = torch.where(passed, at_target, stepped).exp()
    weights *= sum(sizes.given.values()) / weights.sum()
    return dict(zip(names, weights.tolist(), strict=True))


@given(now=three, start=three, weights=three, norms=three, rate=st.floats(0.01, 1.0), asymmetry=st.floats(0, 3))
def test_it_is_the_paper_step(
    now: dict[str, float],
    start: dict[str, float],
    weights: dict[str, float],
    norms: dict[str, float],
    rate: float,
    asymmetry: float,
) -> None:
    """With even shares, whatever the terms' units are."""
    even = dict.fromkeys("abc", 1 / 3)
    sizes = Sizes(
        now=now, before=now, start=start, weights=weights, norms=norms, shares=even, given=dict.fromkeys("abc", 1.0)
    )
    got = GradNorm(rate, asymmetry).weigh(sizes)
    expected = paper(sizes, rate=rate, asymmetry=asymmetry)
    assert got == pytest.approx(expected, rel=1e-6)
    assert sum(got.values()) == pytest.approx(3.0)


def brain_of(weights: dict[str, float], **settings: Any) -> LossSchedulingBrain:
    """A brain that is calibrated at its second decision, and remembers nothing of older norms."""
    written = {"method": "gradnorm", "shared_parameters": "body", "baseline_iterations": 2, "momentum": 0.0}
    brain = LossSchedulingBrain(LossSchedulingSettings(**{**written, **settings}))
    brain.begin(weights, step=0)
    return brain


def play(brain: LossSchedulingBrain, decisions: int, terms: dict[str, float], norms: dict[str, float]) -> None:
    """The same readings again and again."""
    begun = len(brain.state.before) and 10
    for step in range(begun + 1, begun + 1 + decisions):
        brain.observe(step=step, epoch=0, terms=terms, draw=0.5, norms=norms)


@pytest.mark.parametrize("off", [1e-4, 1e4])
def test_terms_of_very_different_scale_pull_equally_hard_at_once(off: float) -> None:
    """The calibration shares out the norms, not the terms; together they pull as hard as before."""
    norms = {"a": 3.0, "b": 5.0 * off}
    brain = brain_of({"a": 1.0, "b": 1.0}, shares="even", max_weight=1e9)
    play(brain, 2, {"a": 7.0, "b": 0.1}, norms)
    pulls = {name: weight * norms[name] for name, weight in brain.weights.items()}
    assert pulls["a"] == pytest.approx(pulls["b"])
    assert sum(pulls.values()) == pytest.approx(3.0 + 5.0 * off)


@pytest.mark.parametrize(("asymmetry", "ratio"), [(0.0, 1.0), (1.0, 4.0), (2.0, 16.0)])
def test_the_norms_come_to_stand_as_the_exponent_says(asymmetry: float, ratio: float) -> None:
    """A term of which four times as much is left pulls harder by four to the power of alpha."""
    brain = brain_of({"a": 1.0, "b": 1.0}, shares="even", asymmetry=asymmetry, adaptation_threshold=0.0)
    norms = {"a": 2.0, "b": 2.0}
    play(brain, 2, {"a": 1.0, "b": 1.0}, norms)
    play(brain, 300, {"a": 0.8, "b": 0.2}, norms)
    assert brain.weights["a"] / brain.weights["b"] == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf, None])
def test_a_term_without_a_gradient_keeps_its_weight(bad: float | None) -> None:
    """It is not there, does not reach the shared parameters, or is NaN; the others are balanced without it."""
    norms = {"a": 1.0, "b": 4.0, **({} if bad is None else {"c": bad})}
    brain = brain_of({"a": 1.0, "b": 1.0, "c": 0.3}, shares="even")
    play(brain, 5, {"a": 1.0, "b": 1.0, "c": 1.0}, norms)
    assert brain.weights["c"] == 0.3
    assert brain.weights["a"] == pytest.approx(4 * brain.weights["b"])


def test_nothing_is_calibrated_before_a_norm_is_known() -> None:
    """Decisions before the first measurement only look."""
    brain = brain_of({"a": 1.0, "b": 1.0})
    play(brain, 5, {"a": 1.0, "b": 1.0}, {})
    assert not brain.state.is_calibrated
    play(brain, 1, {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0})
    assert brain.state.is_calibrated


def test_evidence_names_the_norm() -> None:
    """For the journal."""
    brain = brain_of({"a": 1.0, "b": 1.0}, shares="even")
    made = [
        item
        for step in (1, 2)
        for item in brain.observe(step=step, epoch=0, terms={"a": 1.0, "b": 1.0}, draw=0.5, norms={"a": 1.0, "b": 4.0})
    ]
    assert [item.evidence["gradient_norm"] for item in made] == [1.0, 4.0]


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "shared_parameters"),
        ({"shared_parameters": []}, "shared_parameters"),
        ({"shared_parameters": ""}, "shared_parameters"),
        ({"shared_parameters": ["body", ""]}, "shared_parameters"),
        ({"shared_parameters": "body", "terms": {"a": "train/a"}}, "terms"),
        ({"shared_parameters": "body", "asymmetry": -1.0}, "asymmetry"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], path: str) -> None:
    """With the setting that is meant."""
    with pytest.raises(ConfigError) as caught:
        LossSchedulingSettings(method="gradnorm", **settings)
    assert [problem.path for problem in caught.value.problems] == [f"DynamicLossScheduling.{path}"]
