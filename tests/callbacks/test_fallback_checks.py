"""What a fallback may name and hold: every mistake has its path and what was expected, before any training."""

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from lightning_automations import ConfigError, IntelligentLearningRateScheduler, build_callbacks
from lightning_automations.callbacks.fallback_arguments import FUNCTIONS, argument_type, class_names, parameters_of
from lightning_automations.callbacks.fallback_checks import fallback_problems, problems_of_written_fallback
from lightning_automations.callbacks.fallback_schedule import FallbackSchedule

# Torch 2.6 has one more than torch 2.13.
EXPONENTIAL_ARGUMENTS = ", ".join(list(inspect.signature(lr_scheduler.ExponentialLR).parameters)[1:])
INSIDE = "fallback.scheduler_params"


def _fallback(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"scheduler_type": kind, "scheduler_params": arguments}


def _told(kind: str, **arguments: Any) -> list[str]:
    return [str(problem) for problem in fallback_problems(_fallback(kind, **arguments), path="fallback")]


def _told_of_file(text: str) -> list[str]:
    Path("c.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        build_callbacks("c.yml")
    return [str(problem) for problem in caught.value.problems]


def test_no_fallback_is_no_problem() -> None:
    """An empty fallback holds the factor."""
    assert fallback_problems({}, path="fallback") == []


@pytest.mark.parametrize(
    "fallback", [None, 3, [], {}, {"scheduler_type": 3}, _fallback("step") | {"scheduler_params": 1}]
)
def test_values_of_another_kind_are_left_to_the_types(fallback: Any) -> None:
    """The settings say that they are wrong; torch is not asked."""
    assert problems_of_written_fallback({"fallback": fallback}, "a") == []


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        (
            _fallback("cosin"),
            "fallback.scheduler_type: expected one of cosine, step, multistep, exponential, plateau, constant, or a "
            "class of torch.optim.lr_scheduler, got 'cosin'. Did you mean 'cosine'?",
        ),
        (
            _fallback("LRScheduler"),
            "fallback.scheduler_type: expected one of cosine, step, multistep, exponential, plateau, constant, or a "
            "class of torch.optim.lr_scheduler, got 'LRScheduler'. Did you mean 'ChainedScheduler'?",
        ),
        (
            _fallback("exponential", gama=0.9),
            f"{INSIDE}.gama: expected an argument of ExponentialLR ({EXPONENTIAL_ARGUMENTS}), "
            "got 'gama'. Did you mean 'gamma'?",
        ),
        (_fallback("step"), f"{INSIDE}.step_size: expected a value, for StepLR has no default for it, got nothing."),
        (_fallback("cosine", T_max="abc"), f"{INSIDE}.T_max: expected a whole number at least 1, got 'abc' (str)."),
        (_fallback("cosine", T_max=0), f"{INSIDE}.T_max: expected a whole number at least 1, got 0 (int)."),
        (_fallback("cosine", eta_min=-1), f"{INSIDE}.eta_min: expected a number at least 0 and finite, got -1 (int)."),
        (
            _fallback("exponential", gamma=50),
            f"{INSIDE}.gamma: expected a number above 0 and at most 1, got 50 (int).",
        ),
        (
            _fallback("multistep", milestones=[10, 0]),
            f"{INSIDE}.milestones.1: expected a whole number at least 1, got 0 (int).",
        ),
        (
            _fallback("plateau", mode="maxx"),
            f"{INSIDE}.mode: expected one of 'min', 'max', got 'maxx' (str). Did you mean 'max'?",
        ),
        (
            _fallback("LambdaLR", lr_lambda="x"),
            f"{INSIDE}.lr_lambda: expected a function, which only a program can give, got 'x' (str).",
        ),
        (
            _fallback("MultiplicativeLR", lr_lambda=lambda count: 2.0),
            f"{INSIDE}: expected arguments that keep the rate between 0 and 10 times the rate at the start, got 16 "
            "times that rate after step 4.",
        ),
        (
            _fallback("LambdaLR", lr_lambda=lambda count: 1.0 - count),
            f"{INSIDE}: expected arguments that keep the rate between 0 and 10 times the rate at the start, got -1 "
            "times that rate after step 2.",
        ),
        (
            _fallback("LambdaLR", lr_lambda=lambda count: math.nan),
            f"{INSIDE}: expected arguments that keep the rate between 0 and 10 times the rate at the start, got nan "
            "times that rate after step 0.",
        ),
    ],
)
def test_a_wrong_fallback_is_refused_with_what_was_meant(fallback: dict[str, Any], message: str) -> None:
    """The message names the setting, what it may be, and what comes close."""
    assert [str(problem) for problem in fallback_problems(fallback, path="fallback")] == [message]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("exponential", "gamma", "x"),
        ("exponential", "gamma", -0.5),
        ("exponential", "gamma", math.nan),
        ("step", "step_size", 0),
        ("step", "step_size", 2.5),
        ("cosine", "T_max", None),
        ("cosine", "last_epoch", 5),
        ("plateau", "mode", "up"),
        ("plateau", "patience", "x"),
        ("plateau", "factor", 1.0),
        ("plateau", "factor", -0.1),
        ("plateau", "min_lr", -0.1),
        ("multistep", "milestones", 5),
        ("constant", "factor", 2.0),
        ("constant", "total_iters", 0),
        ("PolynomialLR", "power", -1.0),
        ("LinearLR", "start_factor", 2.0),
        ("CosineAnnealingWarmRestarts", "T_mult", 0),
    ],
)
def test_a_wrong_argument_is_named(kind: str, name: str, value: Any) -> None:
    """Wrong types, counts below 1, and what would lead to a rate that is negative, not finite or above the start."""
    needed = {"step": {"step_size": 1}, "CosineAnnealingWarmRestarts": {"T_0": 1}}.get(kind, {})
    (problem,) = fallback_problems(_fallback(kind, **{**needed, name: value}), path="fallback")
    assert problem.path == f"{INSIDE}.{name}"


def test_what_torch_alone_refuses_is_told_in_its_words() -> None:
    """A scheduler of schedulers takes objects that no fallback can hold."""
    (problem,) = fallback_problems(_fallback("SequentialLR", schedulers=[], milestones=[]), path="fallback")
    assert problem.path == INSIDE
    assert problem.hint is not None
    assert problem.hint.startswith("torch refuses them: ")


def test_every_wrong_argument_is_told_at_once() -> None:
    """Names that torch does not have, values of those that it has, and values under a type that it does not have."""
    assert [line.split(":")[0] for line in _told("cosine", T_mx="abc", eta_min="foo", last_epoch=3)] == [
        f"{INSIDE}.{name}" for name in ("T_mx", "eta_min", "last_epoch")
    ]
    assert [line.split(":")[0] for line in _told("cosin", T_max="abc", other=1)] == [
        "fallback.scheduler_type",
        f"{INSIDE}.T_max",
    ]


@pytest.mark.parametrize("kind", ["CyclicLR", "OneCycleLR"])
def test_a_cycle_may_rise_to_the_rate_that_is_written(kind: str) -> None:
    """These two are about rates of their own; a list has one for each group."""
    needed = {"base_lr": 0.2} if kind == "CyclicLR" else {}
    assert _told(kind, max_lr=0.9, **needed) == []
    assert _told(kind, max_lr=[0.9, 0.2], **{name: [value] * 2 for name, value in needed.items()}) == []


def test_every_number_that_torch_takes_has_a_range() -> None:
    """No scheduler of the installed torch has an argument that is checked by nobody, momentum of the dummies apart."""
    objects = {"schedulers", "verbose", "base_momentum", "max_momentum", *FUNCTIONS}
    unchecked = {
        (kind, name)
        for kind in class_names()
        for name in parameters_of(kind)
        if argument_type(kind, name) is Any and name not in objects
    }
    assert unchecked == set()


number = st.floats(allow_nan=True) | st.integers(-3, 50)


@given(
    kind=st.sampled_from(
        ["cosine", "step", "multistep", "exponential", "constant", "plateau", "PolynomialLR", "LinearLR"]
    ),
    data=st.data(),
)
def test_an_accepted_fallback_never_leaves_the_range_of_its_rate(kind: str, data: st.DataObject) -> None:
    """Whatever numbers are written: refused, or between 0 and the rate at the start at every step."""
    names = [name for name in parameters_of(kind) if name not in ("mode", "threshold_mode", "verbose", "last_epoch")]
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True))
    arguments = {name: [data.draw(number)] if name == "milestones" else data.draw(number) for name in chosen}
    fallback = _fallback(kind, **arguments)
    if fallback_problems(fallback, path="fallback"):
        return
    for steps_left in (1, 30, None):
        schedule = FallbackSchedule(fallback, [[0.3, 0.001]], steps_left=steps_left)
        for step in range(40):
            schedule.advance(1)
            schedule.judge(float(step), "min")
            ((first, second),) = schedule.rates
            assert 0 <= first <= 0.3 * (1 + 1e-6)
            assert 0 <= second <= 0.001 * (1 + 1e-6)


TEXT = """\
train:
  training_automations:
    IntelligentLearningRateScheduler:
      fallback:
        scheduler_type: cosine
        scheduler_params:
          T_max: abc
          eta_mn: 1e-5
"""


def test_a_file_has_the_problems_of_its_fallback_with_their_lines() -> None:
    """File, line and the whole path, as every other problem has them."""
    inside = "train.training_automations.IntelligentLearningRateScheduler.fallback.scheduler_params"
    assert _told_of_file(TEXT) == [
        f"c.yml:7: {inside}.T_max: expected a whole number at least 1, got 'abc' (str).",
        f"c.yml:8: {inside}.eta_mn: expected an argument of CosineAnnealingLR "
        f"({', '.join(parameters_of('cosine'))}), got 'eta_mn'. Did you mean 'eta_min'?",
    ]


def test_the_problems_of_a_fallback_are_told_beside_others() -> None:
    """Under any name of the automation; what is wrong elsewhere hides nothing."""
    text = TEXT.replace("IntelligentLearningRateScheduler", "learning_rate_scheduler")
    lines = _told_of_file(f"{text}      min_lr_factor: 3\n    early_stopping: {{patience: 0}}\n")
    assert [line.split(": ")[0] for line in lines] == ["c.yml:7", "c.yml:8", "c.yml:9", "c.yml:10"]
    assert all("train.training_automations." in line for line in lines)


def test_an_argument_that_cannot_be_resolved_is_not_missed_besides() -> None:
    """One problem, of the interpolation."""
    fallback = {"scheduler_type": "step", "scheduler_params": {"step_size": "${nowhere}"}}
    with pytest.raises(ConfigError) as caught:
        build_callbacks({"training_automations": {"learning_rate_scheduler": {"fallback": fallback}}})
    (problem,) = caught.value.problems
    assert "cannot be resolved" in problem.got


def test_a_callback_that_is_made_by_hand_is_checked_as_well() -> None:
    """With the problems of its other settings."""
    with pytest.raises(ConfigError) as caught:
        IntelligentLearningRateScheduler(min_lr_factor=3, fallback=_fallback("cosine", eta_min=-1))
    assert [problem.path for problem in caught.value.problems] == [
        "IntelligentLearningRateScheduler.min_lr_factor",
        "IntelligentLearningRateScheduler.fallback.scheduler_params.eta_min",
    ]
