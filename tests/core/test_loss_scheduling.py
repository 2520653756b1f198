"""Which weights the terms of a loss get: calibration, bounds, terms that are no good, and the state."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.loss_scheduling import LossSchedulingBrain
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings

METHODS = ["magnitudes", "dynamic_weight_average", "uncertainty", "relative_balancing", "gradnorm"]


def settings_of(**settings: Any) -> LossSchedulingSettings:
    """Settings with a baseline of 100 steps."""
    return LossSchedulingSettings(**{"baseline_iterations": 100, "shared_parameters": "layer", **settings})


def brain_of(weights: dict[str, float] | None = None, **settings: Any) -> LossSchedulingBrain:
    """A brain whose baseline is complete after 100 steps; decisions come every 50."""
    brain = LossSchedulingBrain(settings_of(**settings))
    brain.begin(weights or {"a": 1.0, "b": 1.0}, step=0)
    return brain


def play(brain: LossSchedulingBrain, *terms: dict[str, float], start: int = 0, draw: float = 0.5) -> list[Adjustment]:
    """One decision after the other. The norms of the gradients are ten times the terms."""
    made: list[Adjustment] = []
    for place, each in enumerate(terms, start=start + 1):
        norms = {name: 10 * value for name, value in each.items()}
        made += brain.observe(step=50 * place, epoch=0, terms=each, draw=draw, norms=norms)
    return made


@pytest.mark.parametrize("off", [0.01, 100.0])
def test_calibration_gives_each_term_the_share_that_its_weight_says(off: float) -> None:
    """Terms of very different size; the loss as a whole stays as large as it was."""
    brain = brain_of({"a": 1.0, "b": 0.25})
    terms = {"a": 2.0, "b": 2.0 * off}
    made = play(brain, terms, terms)
    assert [item.reason for item in made] == [Reason.CALIBRATED, Reason.CALIBRATED]
    parts = {name: weight * terms[name] for name, weight in brain.weights.items()}
    assert parts["b"] / sum(parts.values()) == pytest.approx(0.2)
    assert sum(parts.values()) == pytest.approx(2.0 + 0.5 * off)
    assert [item.parameter for item in made] == ["loss_weights.a", "loss_weights.b"]


def test_even_shares_do_not_ask_which_weights_were_given() -> None:
    """A weight that is a hundred times too high makes no difference."""
    for given_weights in ({"a": 1.0, "b": 1.0}, {"a": 100.0, "b": 1.0}):
        brain = brain_of(given_weights, shares="even", max_weight=1000.0)
        play(brain, {"a": 1.0, "b": 4.0}, {"a": 1.0, "b": 4.0})
        assert brain.weights["a"] == pytest.approx(4 * brain.weights["b"])


@pytest.mark.parametrize("method", METHODS)
def test_no_method_moves_what_was_just_calibrated(method: str) -> None:
    """As long as the terms stay as they are: the loss keeps its size, and Adam its memory of it."""
    brain = brain_of({"a": 100.0, "b": 1.0}, shares="even", method=method, max_weight=1000.0)
    play(brain, {"a": 1.0, "b": 4.0}, {"a": 1.0, "b": 4.0})
    calibrated = brain.weights
    assert play(brain, *[{"a": 1.0, "b": 4.0}] * 5, start=2) == []
    assert brain.weights == calibrated


def test_nothing_is_changed_before_the_baseline_is_complete() -> None:
    """However large the terms are."""
    assert play(brain_of(), {"a": 1.0, "b": 1000.0}) == []


def test_without_calibration_the_shares_of_the_baseline_are_held() -> None:
    """The given weights stay; a term that shrinks gets its share back, bit by bit."""
    brain = brain_of(auto_calibrate=False, momentum=0.0)
    assert play(brain, *[{"a": 1.0, "b": 3.0}] * 5) == []
    assert brain.weights == {"a": 1.0, "b": 1.0}
    made = play(brain, *[{"a": 1.0, "b": 0.3}] * 20, start=5)
    assert {item.reason for item in made} == {Reason.TERMS_OUT_OF_BALANCE}
    share = brain.weights["b"] * 0.3 / (brain.weights["a"] + brain.weights["b"] * 0.3)
    assert share == pytest.approx(0.75, abs=0.03)


def test_small_changes_add_up_until_they_matter() -> None:
    """A threshold of 50 % is passed by steps of which each is far smaller."""
    brain = brain_of(auto_calibrate=False, momentum=0.0, adaptation_rate=0.002, adaptation_threshold=0.5)
    play(brain, *[{"a": 1.0, "b": 1.0}] * 3)
    made = [bool(play(brain, {"a": 1.0, "b": 0.01}, start=place)) for place in range(3, 20)]
    assert made[0] is False
    assert any(made)


@pytest.mark.parametrize("method", METHODS)
@given(
    series=st.lists(
        st.fixed_dictionaries(
            {name: st.sampled_from([0.0, 1e-40, 1e-12, 0.5, 3.0, 1e12, 1e300, math.nan, math.inf]) for name in "abc"}
        ),
        min_size=3,
        max_size=30,
    ),
    draw=st.floats(0, 0.999),
)
def test_weights_stay_finite_and_inside_their_bounds(method: str, series: list[dict[str, float]], draw: float) -> None:
    """Terms that are 0, missing, NaN, infinite or of absurd size."""
    brain = brain_of({"a": 1.0, "b": 0.5, "c": 0.0}, method=method, min_weight=0.01, max_weight=10.0, temperature=0.1)
    play(brain, *series, draw=draw)
    assert brain.weights["c"] == 0.0
    assert all(0.01 <= brain.weights[name] <= 10.0 for name in "ab")


def test_a_term_that_is_missing_keeps_its_weight() -> None:
    """And the others are balanced without it."""
    brain = brain_of({"a": 1.0, "b": 1.0, "c": 1.0})
    play(brain, *[{"a": 1.0, "b": 4.0, "c": math.nan}] * 3)
    assert brain.weights["c"] == 1.0
    assert brain.weights["a"] == pytest.approx(4 * brain.weights["b"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("silent", [0.0, math.nan])
def test_a_term_that_falls_silent_keeps_its_weight(method: str, silent: float) -> None:
    """Its last size says nothing of it any more; the others are balanced without it."""
    brain = brain_of({"a": 1.0, "b": 1.0, "c": 1.0}, method=method, adaptation_threshold=0.0)
    play(brain, *[{"a": 1.0, "b": 4.0, "c": 2.0}] * 3)
    kept = brain.weights["c"]
    made = play(brain, *({"a": 1.0 / place, "b": 4.0, "c": silent} for place in range(1, 9)), start=3)
    assert {item.parameter for item in made} == {"loss_weights.a", "loss_weights.b"}
    assert brain.weights["c"] == kept


def test_one_term_alone_is_left_alone() -> None:
    """There is nothing to balance it with."""
    assert play(brain_of({"a": 1.0}), *[{"a": float(place)} for place in range(1, 20)]) == []


def test_the_baseline_lasts_until_two_terms_have_been_read() -> None:
    """A third one that comes later keeps its weight, and is told of; as long as it only looks, nothing is."""
    brain = brain_of({"a": 1.0, "b": 1.0, "c": 1.0})
    assert play(brain, {"a": 1.0}) == []
    assert brain.unread(50) == []
    assert play(brain, *[{"a": 1.0, "b": 0.0}] * 3, start=1) == []
    assert brain.unread(200) == ["b", "c"]
    assert len(play(brain, {"a": 1.0, "b": 4.0}, start=4)) == 2
    play(brain, *[{"a": 1.0, "b": 4.0, "c": 2.0}] * 3, start=5)
    assert brain.unread(400) == ["c"]
    assert brain.weights["c"] == 1.0


def test_a_weight_that_comes_to_a_bound_is_told() -> None:
    """One that was given there has not come to it."""
    brain = brain_of({"a": 100.0, "b": 1.0}, shares="even")
    play(brain, *[{"a": 1.0, "b": 1.0}] * 2)
    assert brain.at_bounds() == []
    play(brain := brain_of(shares="even"), *[{"a": 1.0, "b": 1e-6}] * 2)
    assert (brain.weights["b"], brain.at_bounds()) == (100.0, ["b"])


def test_a_given_weight_beyond_a_bound_moves_the_bound() -> None:
    """It is not cut before anything has been seen."""
    brain = brain_of({"a": 500.0, "b": 1.0}, max_weight=100.0)
    play(brain, *[{"a": 1.0, "b": 1.0}] * 10)
    assert brain.weights["a"] == 500.0


def test_after_a_rollback_the_next_decision_waits_for_two_sizes() -> None:
    """What the terms were in between is no longer true."""
    brain = brain_of(method="dynamic_weight_average", adaptation_threshold=0.0)
    play(brain, *[{"a": 1.0, "b": 1.0}] * 3)
    brain.forget()
    assert play(brain, {"a": 1.0, "b": 2.0}, start=3) == []
    assert brain.state.sizes == {"a": 1.0, "b": 2.0}
    assert play(brain, {"a": 1.0, "b": 1.0}, start=4) != []


def test_held_weights_are_those_of_the_start_where_none_is_named() -> None:
    """The fallback."""
    brain = brain_of({"a": 2.0, "b": 0.5})
    play(brain, *[{"a": 1.0, "b": 9.0}] * 3)
    brain.hold({"b": 0.1})
    assert brain.weights == {"a": 2.0, "b": 0.1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [1, 2, 5])
def test_a_state_that_went_through_json_has_the_same_future(method: str, stop: int) -> None:
    """At any decision."""
    series = [{"a": 1.0 / place, "b": 2.0 + 0.1 * place} for place in range(1, 15)]
    whole, first = brain_of(method=method, momentum=0.5), brain_of(method=method, momentum=0.5)
    made = play(whole, *series)
    before = play(first, *series[:stop])
    resumed = LossSchedulingBrain(settings_of(method=method, momentum=0.5))
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    resumed.begin({"a": 1.0, "b": 1.0}, step=50 * stop)
    assert before + play(resumed, *series[stop:], start=stop) == made
    assert resumed.weights == whole.weights


def test_bounds_that_contradict_each_other_are_refused() -> None:
    """With both numbers."""
    with pytest.raises(ConfigError, match="min_weight"):
        LossSchedulingSettings(min_weight=2.0, max_weight=1.0)
