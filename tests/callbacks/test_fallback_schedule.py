"""The schedule after retirement: what is accepted, how it is fitted, and how it goes on after a checkpoint."""

import json
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from lightning_automations.callbacks.fallback_checks import fallback_problems
from lightning_automations.callbacks.fallback_schedule import FallbackSchedule

SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("cosine", {"T_max": 9, "eta_min": 0.01}),
    ("cosine", {}),
    ("step", {"step_size": 3}),
    ("multistep", {"milestones": [2, 5], "gamma": 0.5}),
    ("exponential", {"gamma": 0.9}),
    ("constant", {}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    ("LinearLR", {"start_factor": 0.5}),
    ("PolynomialLR", {"power": 2.0}),
    ("OneCycleLR", {"max_lr": 0.5}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3}),
    ("LambdaLR", {"lr_lambda": lambda count: 1 / (1 + count)}),
    ("MultiplicativeLR", {"lr_lambda": lambda count: 0.9}),
]


def _fallback(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"scheduler_type": kind, "scheduler_params": arguments}


def _rates(schedule: FallbackSchedule, steps: int) -> list[list[list[float]]]:
    rates = [schedule.rates]
    for _ in range(steps):
        schedule.advance(1)
        rates.append(schedule.rates)
    return rates


def test_the_schedule_is_that_of_torch() -> None:
    """Cosine over the steps that remain, from each group's own rate."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.2)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=6, eta_min=0.01)
    expected = [0.2]
    for _ in range(6):
        optimizer.step()
        scheduler.step()
        expected.append(optimizer.param_groups[0]["lr"])
    schedule = FallbackSchedule(_fallback("cosine", T_max=40000, eta_min=0.01), [[0.2], [0.1]], steps_left=6)
    rates = _rates(schedule, 6)
    assert [first for (first,), _ in rates] == expected
    assert rates[0] == [[0.2], [0.1]]
    assert rates[-1] == [[pytest.approx(0.01)], [pytest.approx(0.01)]]


@pytest.mark.parametrize("steps_left", [1, 10, None])
@pytest.mark.parametrize(("kind", "arguments"), SCHEDULES)
def test_no_schedule_fails_however_long_it_runs(kind: str, arguments: dict[str, Any], steps_left: int | None) -> None:
    """Every schedule is accepted and can be run beyond its horizon, with rates that are never negative."""
    fallback = _fallback(kind, **arguments)
    assert fallback_problems(fallback, path="fallback") == []
    rates = _rates(FallbackSchedule(fallback, [[0.1]], steps_left=steps_left), 25)
    assert all(rate >= 0 for ((rate,),) in rates)


def test_a_schedule_is_held_after_its_horizon() -> None:
    """A cosine does not rise again, and a cycle does not fail."""
    for kind, arguments in (("cosine", {"T_max": 5}), ("OneCycleLR", {"max_lr": 0.5, "total_steps": 5})):
        rates = _rates(FallbackSchedule(_fallback(kind, **arguments), [[0.1]], steps_left=50), 20)
        assert rates[5:] == [rates[5]] * 16
        assert rates[5][0][0] < 0.01


def test_a_lowest_rate_above_the_start_is_lowered_to_it() -> None:
    """The fallback never raises the rate towards its lowest one."""
    cosine = FallbackSchedule(_fallback("cosine", eta_min=1.0), [[0.1]], steps_left=10)
    assert {rate for ((rate,),) in _rates(cosine, 10)} == {0.1}
    plateau = FallbackSchedule(_fallback("plateau", min_lr=[1.0], patience=0), [[0.1]], steps_left=10)
    for _ in range(5):
        plateau.judge(1.0, "min")
    assert plateau.rates == [[0.1]]


def test_a_horizon_that_nobody_knows_holds_the_rate() -> None:
    """Without a written horizon and without an end of the run, cosine cannot be drawn."""
    assert _rates(FallbackSchedule(_fallback("cosine"), [[0.1]], steps_left=None), 30)[-1] == [[0.1]]


@pytest.mark.parametrize(("mode", "metrics"), [("min", [1.0, 0.5, 0.6, 0.7]), ("max", [1.0, 1.5, 1.4, 1.3])])
def test_plateau_steps_on_the_metric_in_its_direction(mode: Any, metrics: list[float]) -> None:
    """Two validations that are not better lower the rate; steps of the optimizer do not."""
    schedule = FallbackSchedule(_fallback("plateau", patience=1, factor=0.1), [[0.1]], steps_left=100)
    for metric in metrics[:-1]:
        schedule.judge(metric, mode)
        schedule.advance(10)
    assert schedule.rates == [[0.1]]
    schedule.judge(metrics[-1], mode)
    assert schedule.rates == [[pytest.approx(0.01)]]


@pytest.mark.parametrize(("kind", "arguments"), SCHEDULES)
def test_a_schedule_goes_on_exactly_after_a_checkpoint(kind: str, arguments: dict[str, Any]) -> None:
    """At any step the state survives JSON and gives the same rates from there on."""
    fallback = _fallback(kind, **arguments)
    for stop in (0, 1, 4, 7):
        schedule = FallbackSchedule(fallback, [[0.1, 0.3]], steps_left=20)
        schedule.advance(stop)
        resumed = FallbackSchedule.from_state(fallback, json.loads(json.dumps(schedule.state_dict())))
        assert _rates(resumed, 15) == _rates(schedule, 15)


def test_a_plateau_goes_on_exactly_after_a_checkpoint() -> None:
    """The best metric and the count of misses are in the state."""
    fallback = _fallback("plateau", patience=1, factor=0.5)
    metrics = [1.0, 1.1, 1.2, 1.3, 1.0, 0.9, 0.8, 0.7]
    for stop in range(len(metrics)):
        schedule = FallbackSchedule(fallback, [[0.1]], steps_left=20)
        for metric in metrics[:stop]:
            schedule.judge(metric, "max")
        resumed = FallbackSchedule.from_state(fallback, json.loads(json.dumps(schedule.state_dict())))
        for metric in metrics[stop:]:
            schedule.judge(metric, "max")
            resumed.judge(metric, "max")
        assert resumed.rates == schedule.rates
        assert schedule.rates[0][0] < 0.1


def test_a_horizon_in_epochs_is_one_in_steps() -> None:
    """Epochs of so many steps are shortened to the steps that remain, and held after their end."""
    cycle = _fallback("OneCycleLR", max_lr=0.1, epochs=2, steps_per_epoch=5)
    for steps_left in (50, None):
        rates = _rates(FallbackSchedule(cycle, [[0.1]], steps_left=steps_left), 20)
        assert rates[9:] == [rates[9]] * 12
        assert rates[9] != rates[8]
    shortened = _rates(FallbackSchedule(cycle, [[0.1]], steps_left=6), 20)
    assert shortened[5:] == [shortened[5]] * 16


def test_a_whole_number_may_be_written_with_an_exponent() -> None:
    """YAML reads 1e1 as a float, on which torch would not build this schedule."""
    written, plain = (_fallback("CosineAnnealingWarmRestarts", T_0=length) for length in (1e1, 10))
    schedules = [FallbackSchedule(fallback, [[0.1]], steps_left=50) for fallback in (written, plain)]
    assert _rates(schedules[0], 25) == _rates(schedules[1], 25)
