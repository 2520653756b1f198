"""When the early stopper may not stop, what starts its wait anew, and its state."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.decision import Reason
from lightning_automations.core.early_stopping import EarlyStoppingBrain
from tests.core.stopping import FALLING, first_stop, judge, settings

FINITE = st.floats(min_value=-1e6, max_value=1e6)


@pytest.mark.parametrize(
    ("gate", "index"),
    [
        pytest.param({"min_iterations": 200}, 19, id="steps"),
        pytest.param({"min_epochs": 20}, 19, id="epochs"),
        pytest.param({"warmup_iterations": 170}, 19, id="warm-up and then the patience"),
    ],
)
def test_no_stop_before_a_gate_is_passed(gate: dict[str, int], index: int) -> None:
    """A run that is flat from the start is stopped as soon as the gate allows, and not one judgement earlier."""
    stop = first_stop(EarlyStoppingBrain(settings(**gate)), [1.0] * 40)
    assert stop is not None
    assert stop[0] == index


def test_the_trainers_own_minimum_holds_a_stop_back() -> None:
    """While the trainer may not stop, nothing is said; afterwards the verdict is formed anew."""
    brain = EarlyStoppingBrain(settings())
    assert all(judge(brain, index, 1.0, may_stop=False) is None for index in range(30))
    assert judge(brain, 30, 0.5) is None
    assert judge(brain, 31, 0.5) is None


def test_a_run_that_improves_when_a_gate_opens_is_not_stopped_for_what_was_before() -> None:
    """Lightning keeps the verdict of the flat part and ends the run at the gate (#19966)."""
    curve = [1.0] * 10 + [0.99 - 0.01 * index for index in range(30)]
    assert first_stop(EarlyStoppingBrain(settings(min_epochs=12)), curve) is None


def test_metrics_of_the_warm_up_never_become_the_best() -> None:
    """A lucky value in the warm-up, which nothing reaches later, does not end the run."""
    brain = EarlyStoppingBrain(settings(warmup_iterations=50))
    assert first_stop(brain, [0.0] * 4 + FALLING) is None
    assert brain.history.best == FALLING[-1]


@given(
    curve=st.lists(st.one_of(FINITE, st.just(math.nan), st.just(math.inf)), max_size=60),
    gates=st.fixed_dictionaries(
        {
            "min_epochs": st.integers(0, 70),
            "min_iterations": st.integers(0, 700),
            "warmup_iterations": st.integers(0, 700),
        }
    ),
    higher_is_better=st.booleans(),
)
def test_gates_hold_and_an_accepted_best_is_never_stopped(
    curve: list[float], gates: dict[str, int], higher_is_better: bool
) -> None:
    """Whatever the metric does: no stop before every gate, none at a judgement that improves enough."""
    brain = EarlyStoppingBrain(settings(**gates))
    for index, metric in enumerate(curve):
        adjustment = judge(brain, index, metric, higher_is_better=higher_is_better, train_loss=1.0 / (index + 1))
        if adjustment is not None:
            assert index + 1 >= gates["min_epochs"]
            assert adjustment.step >= max(gates["min_iterations"], gates["warmup_iterations"])
            assert brain.history.wait_count > 0


def test_a_planned_drop_of_the_rate_starts_the_wait_anew() -> None:
    """Step decay: the rate is flat, then falls; the run gets its full patience after it."""
    brain = EarlyStoppingBrain(settings(patience=50))
    rates = [0.1] * 4 + [0.01] * 30
    stops = [index for index, rate in enumerate(rates) if judge(brain, index, 1.0, rate=rate) is not None]
    assert stops[0] == 4 + 5


def test_a_drop_that_brought_nothing_earns_no_second_wait() -> None:
    """A rate that falls with every epoch, judged several times in each, is flat before each fall: it must end too."""
    brain = EarlyStoppingBrain(settings(patience=50))
    rates = [0.1 * 0.5 ** (index // 4) for index in range(40)]
    stops = [index for index, rate in enumerate(rates) if judge(brain, index, 1.0, rate=rate) is not None]
    assert stops[0] == 4 + 5


def test_after_a_drop_that_helped_the_next_one_is_waited_for_too() -> None:
    """Step decay as it should be: every drop brings an improvement, and the last one gets its full wait."""
    brain = EarlyStoppingBrain(settings(patience=60))
    rates = [0.1 * 0.1 ** (index // 5) for index in range(15)] + [0.001] * 9
    metrics = [1.0 - 0.1 * min(index // 5, 1) for index in range(24)]
    stops = [i for i, (rate, value) in enumerate(zip(rates, metrics, strict=True)) if judge(brain, i, value, rate=rate)]
    assert stops[0] == 10 + 6


@pytest.mark.parametrize("reason", [Reason.PLATEAU, Reason.CONVERGENCE, Reason.OVERFITTING])
def test_nothing_is_concluded_from_a_flat_stretch_before_a_planned_drop(reason: Reason) -> None:
    """Whatever would have ended the run starts to be judged with the drop, which may change everything."""

    def stop_of(drop: int) -> int:
        brain = EarlyStoppingBrain(settings(criteria=(reason.value,), patience=50))
        for index in range(100):
            metric = 0.5 if reason is not Reason.OVERFITTING else 1.0 + 0.05 * max(index - 4, 0)
            seen = {"metric": 1.0 if index == 0 else metric, "train_loss": 1.0 - 0.01 * index}
            rate = {"rate": 0.1 if index < drop else 0.01, "drop_ahead": index < drop}
            if judge(brain, index, **seen, **rate, horizon_steps=1000) is not None:
                return index
        return -1

    without, with_drop = stop_of(0), stop_of(40)
    assert 0 < without < 40 < with_drop < 60


def test_a_metric_that_is_lost_is_not_waited_for() -> None:
    """No drop of the rate brings back what is not a number."""
    brain = EarlyStoppingBrain(settings())
    assert judge(brain, 0, math.nan, drop_ahead=True) is None
    assert judge(brain, 1, math.nan, drop_ahead=True) is not None


def test_after_a_drop_in_vain_the_next_one_is_not_waited_for() -> None:
    """Step decay that has brought nothing once is not believed twice."""
    brain = EarlyStoppingBrain(settings(patience=50))
    rates = [0.1 * 0.5 ** (index // 4) for index in range(40)]
    stops = [index for index, rate in enumerate(rates) if judge(brain, index, 1.0, rate=rate, drop_ahead=True)]
    assert stops[0] == 4 + 5


@pytest.mark.parametrize(
    "rates",
    [
        pytest.param([0.1 * 0.8**index for index in range(30)], id="exponential"),
        pytest.param([0.05 * (1 + math.cos(math.pi * index / 30)) for index in range(30)], id="cosine"),
        pytest.param([0.1 * (1 - 0.03 * index) for index in range(30)], id="linear"),
        pytest.param([0.1, 0.095] * 15, id="small changes"),
        pytest.param([0.001 * 1.5**index for index in range(30)], id="rising"),
    ],
)
def test_a_rate_that_changes_all_the_time_postpones_nothing(rates: list[float]) -> None:
    """A continuous decay must not keep a flat run alive."""
    brain = EarlyStoppingBrain(settings(patience=50))
    stops = [index for index, rate in enumerate(rates) if judge(brain, index, 1.0, rate=rate) is not None]
    assert stops[0] == 5


def test_the_wait_starts_anew_when_told() -> None:
    """Patience, hard limit and strips count from there; the best stays."""
    brain = EarlyStoppingBrain(settings(max_no_improvement=30))
    for index in range(3):
        assert judge(brain, index, 1.0) is None
    brain.restart_wait(30)
    stops = [index for index in range(3, 9) if judge(brain, index, 1.0) is not None]
    assert stops[0] == 5
    assert brain.history.best == 1.0


def test_after_a_rollback_what_came_after_the_snapshot_is_forgotten() -> None:
    """The best of weights that no longer exist is no measure; an older one is."""
    brain = EarlyStoppingBrain(settings())
    for index, metric in enumerate([1.0, 0.8, 0.2, math.nan]):
        judge(brain, index, metric)
    brain.forget_after(25, step=45)
    assert (brain.history.best, brain.history.best_step) == (0.8, 20)
    assert judge(brain, 4, math.nan) is None
    assert judge(brain, 5, 0.7) is None
    assert brain.history.best == 0.7


def test_a_rollback_before_everything_judged_leaves_nothing() -> None:
    """The next value is the first."""
    brain = EarlyStoppingBrain(settings())
    judge(brain, 0, 1.0)
    brain.forget_after(5, step=12)
    assert brain.history.best is None
    assert judge(brain, 1, 3.0) is None
    assert brain.history.best == 3.0


# State ---------------------------------------------------------------------------------------------------------------


@given(
    curve=st.lists(st.one_of(FINITE, st.just(math.nan)), min_size=1, max_size=60),
    cut=st.integers(0, 60),
    rates=st.lists(st.sampled_from([0.1, 0.05, 0.01]), min_size=60, max_size=60),
)
def test_a_state_through_json_at_any_point_gives_the_same_future(
    curve: list[float], cut: int, rates: list[float]
) -> None:
    """Saved and taken up anywhere, the verdicts that follow are the same."""
    whole, parts = EarlyStoppingBrain(settings()), EarlyStoppingBrain(settings())
    for index, metric in enumerate(curve):
        if index == cut:
            state = json.loads(json.dumps(parts.state_dict()))
            parts = EarlyStoppingBrain(settings())
            parts.load_state_dict(state)
            assert parts.state_dict() == state
        more = {"rate": rates[index], "train_loss": None if index % 7 else 1.0 / (index + 1)}
        assert judge(whole, index, metric, **more) == judge(parts, index, metric, **more)


def test_the_state_does_not_grow_with_the_run() -> None:
    """A thousand improvements take no more room than a hundred."""
    brain = EarlyStoppingBrain(settings())
    sizes = []
    for index in range(1000):
        judge(brain, index, -float(index), train_loss=1.0)
        sizes.append(sum(len(value) for value in brain.state_dict().values() if isinstance(value, list)))
    assert max(sizes) == max(sizes[:100])
