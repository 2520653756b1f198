import math

import pytest

from benchmarks.scenarios import SCENARIOS, Family, scenario_named

FAULTS = [scenario for scenario in SCENARIOS if scenario.family is Family.FAULT]
STEPS = 300


def factors_of(name: str, *, steps: int = STEPS, seed: int = 0) -> list[float]:
    """What the loss of each step of a scenario is multiplied with."""
    return scenario_named(name).loss_factors(steps=steps, seed=seed)


def test_there_are_five_rates_ten_faults_and_a_clean_run() -> None:
    """The list that the scoreboard promises."""
    families = [scenario.family for scenario in SCENARIOS]
    assert {family: families.count(family) for family in Family} == {Family.CLEAN: 1, Family.RATE: 5, Family.FAULT: 10}
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert [s.rate_factor for s in SCENARIOS if s.family is Family.RATE] == [0.001, 0.01, 0.1, 10, 100]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("steps", [120, 300])
def test_faults_are_the_same_for_every_method_of_a_seed(scenario, steps: int) -> None:
    """Runs that are compared as a pair meet the same fault at the same step."""
    first, second = (scenario.loss_factors(steps=steps, seed=3) for _ in range(2))
    assert len(first) == steps
    assert repr(first) == repr(second)


@pytest.mark.parametrize("scenario", FAULTS, ids=lambda scenario: scenario.name)
def test_every_fault_strikes_and_says_whether_it_is_finite(scenario) -> None:
    """A fault that changes nothing would count as survived; finite and non-finite ones are reported apart."""
    for seed in range(3):
        factors = scenario.loss_factors(steps=STEPS, seed=seed)
        assert any(factor != 1.0 for factor in factors)
        assert all(map(math.isfinite, factors)) is scenario.finite


def test_clean_runs_and_wrong_rates_leave_the_loss_alone() -> None:
    """Their trouble, if any, is the rate."""
    for scenario in SCENARIOS:
        if scenario.family is not Family.FAULT:
            assert set(scenario.loss_factors(steps=STEPS, seed=0)) == {1.0}


def test_spikes_stand_where_the_scenario_says() -> None:
    """Three in the first or last twentieth of the run, never at the first step, with the promised strength."""
    for seed in range(5):
        early = [step for step, factor in enumerate(factors_of("spikes in warm-up", seed=seed)) if factor != 1]
        late = [step for step, factor in enumerate(factors_of("spikes near the end", seed=seed)) if factor != 1]
        assert len(early) == len(late) == 3
        assert min(early) >= 1
        assert max(early) < 0.05 * STEPS
        assert min(late) >= 0.95 * STEPS
        assert all(100 <= factor <= 10_000 for factor in factors_of("random spikes", seed=seed) if factor != 1)


def test_the_loss_is_reweighted_from_where_the_scenario_says() -> None:
    """Levels change once, at the share of the run that is named."""
    assert factors_of("loss x10 half-way") == [1.0] * 150 + [10] * 150
    assert factors_of("loss x0.1 half-way") == [1.0] * 150 + [0.1] * 150
    assert factors_of("loss x0.01 at first") == [0.01] * 100 + [1.0] * 200
    assert min(factors_of("tiny loss unit")) == 1e-4


def test_the_list_of_the_headline_is_the_one_that_was_frozen() -> None:
    """A scenario that is added does not slip into the one pooled figure."""
    beyond = [scenario.name for scenario in SCENARIOS if not scenario.within_bounds]
    assert beyond == ["rate x0.001", "rate x0.01", "rate x0.1", "rate x100"]
    assert len(SCENARIOS) - len(beyond) == 12


def test_an_unknown_scenario_is_named_with_the_known_ones() -> None:
    """Expected, got."""
    with pytest.raises(ValueError, match=r"expected one of .*'clean'.*, got 'claen'"):
        scenario_named("claen")
