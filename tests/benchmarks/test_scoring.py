"""Success, rescue, harm and intervals, on made-up outcomes whose figures are known."""

import math

import pytest

from benchmarks.scoring import (
    NOISE,
    Comparison,
    Failure,
    Headline,
    MemoryRun,
    Share,
    compare,
    failures,
    headline,
    interventions,
    judge,
    matrix,
    of_study,
    only_shared,
    relative_seconds,
    same_as_plain,
    select,
)
from benchmarks.scoring.groups import FINITE, GROUPS, NON_FINITE
from tests.benchmarks.made_up import BAD, BUDGET, GOOD, REFERENCES, outcome, series

Z = 1.959963984540054
"""The normal distribution's quantile of 97.5 %."""


def _wilson(count: int, total: int) -> tuple[float, float]:
    """Wilson's formula as it is in textbooks."""
    p, weight = count / total, Z**2 / total
    middle = (p + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(p * (1 - p) / total + weight / (4 * total))
    return middle - half, middle + half


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({}, None),
        ({"score": 0.96 - 0.02}, None),
        ({"score": 0.9399}, Failure.BELOW_MARGIN),
        ({"samples": BUDGET + 1}, Failure.OVER_BUDGET),
        ({"error": "RuntimeError: it broke"}, Failure.RAISED),
        ({"error": "RuntimeError: it broke", "score": None, "test_loss": None}, Failure.RAISED),
        ({"score": math.nan}, Failure.NOT_FINITE),
        ({"score": None}, Failure.NOT_FINITE),
        ({"test_loss": math.inf}, Failure.NOT_FINITE),
        ({"test_loss": None}, Failure.NOT_FINITE),
    ],
)
def test_a_run_succeeds_within_margin_and_budget_when_it_ends_well(fields, failure):
    """A run that raises, ends non-finite, sees too many samples or is below the margin is a failure."""
    (run,) = judge([outcome(**fields)], REFERENCES)
    assert run.failure is failure
    assert run.success is (failure is None)


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([outcome(), outcome()], "expected one outcome a cell"),
        ([outcome(task="unknown")], "expected a reference for 'unknown' with 'adamw', got none"),
        ([outcome(scenario="unknown")], "expected one of"),
    ],
)
def test_what_cannot_be_judged_is_an_error(outcomes, message):
    """A cell that is there twice, or has no reference or scenario, is not passed over."""
    with pytest.raises(ValueError, match=message):
        judge(outcomes, REFERENCES)


def test_rescue_and_harm_are_paired_by_seed():
    """Rescued are successes where plain fails, harmed are failures where plain succeeds, seed by seed."""
    plain = series("plain", [False, False, False, True, True])
    rival = series("rival", [True, True, False, False, True])
    found = compare(judge(plain + rival, REFERENCES), "rival")
    assert found == Comparison(
        method="rival", successes=Share(3, 5), rescued=Share(2, 3), harmed=Share(1, 2), missing=0
    )


def test_runs_pair_only_within_task_optimizer_scenario_and_seed():
    """A run beside another task, optimizer, scenario or seed is no pair."""
    plain = outcome(score=BAD)
    others = [
        outcome("rival", task="text"),
        outcome("rival", optimizer="sgd"),
        outcome("rival", scenario="one NaN"),
        outcome("rival", seed=1),
    ]
    found = compare(judge([plain, *others], REFERENCES), "rival")
    assert (found.rescued, found.harmed) == (Share(0, 0), Share(0, 0))
    assert found.missing == 5


def test_missing_partners_are_counted():
    """A run whose partner is not there is neither rescued nor harmed, and is told."""
    plain = series("plain", [False, False, True])
    rival = series("rival", [True])
    found = compare(judge([*plain, *rival, outcome("rival", seed=9)], REFERENCES), "rival")
    assert (found.successes, found.rescued, found.harmed) == (Share(2, 2), Share(1, 1), Share(0, 0))
    assert found.missing == 3


def test_plain_rescues_and_harms_nothing():
    """Plain Lightning beside itself."""
    found = compare(judge(series("plain", [True, False]), REFERENCES), "plain")
    assert (found.rescued, found.harmed, found.missing) == (Share(0, 1), Share(0, 1), 0)


@pytest.mark.parametrize(("count", "total"), [(0, 37), (1, 37), (31, 73), (3, 3), (270, 288)])
def test_intervals_are_wilsons(count, total):
    """The interval is that of Wilson's formula."""
    assert Share(count, total).interval == pytest.approx(_wilson(count, total), abs=1e-9)


def test_a_known_interval():
    """31 of 73 by hand: p = 0.42466, z2/n = 0.052622; middle (p + 0.026311)/1.052622, half 0.11058."""
    low, high = Share(31, 73).interval
    assert (round(low, 4), round(high, 4)) == (0.3178, 0.5390)


def test_a_share_of_nothing_has_no_value():
    """Neither a value nor an interval is made up where nothing was measured."""
    assert Share(0, 0).value is None
    assert Share(0, 0).interval is None


def test_groups_keep_faults_apart():
    """Finite and non-finite faults are in no group together, and no scenario is in two groups of a study."""
    scenarios = ["random spikes", "one NaN", "clean", "rate x10", "rate x0.01"]
    runs = judge([outcome(scenario=name) for name in scenarios], REFERENCES)
    assert [run.scenario.name for run in select(runs, methods=["plain"], group=FINITE)] == ["random spikes"]
    assert [run.scenario.name for run in select(runs, methods=["plain"], group=NON_FINITE)] == ["one NaN"]
    for groups in GROUPS.values():
        assert all(sum(group.includes(run.scenario) for group in groups) <= 1 for run in runs)


def test_select_keeps_the_held_out_task_apart():
    """The held-out task is in a table of its own and in no other."""
    runs = judge([outcome(task="wine"), outcome(task="kept")], REFERENCES)
    assert [run.place[0] for run in select(runs, methods=["plain"])] == ["wine"]
    assert [run.place[0] for run in select(runs, methods=["plain"], held_out=True)] == ["kept"]


def test_matrix_counts_successes_by_column():
    """One share for each method and task; none where a method has no run."""
    outcomes = [*series("plain", [True, False]), *series("rival", [True, True]), outcome("rival", task="text")]
    found = matrix(judge(outcomes, REFERENCES), lambda run: run.place[0])
    assert found == {
        "plain": {"wine": Share(1, 2), "text": Share(0, 0)},
        "rival": {"wine": Share(2, 2), "text": Share(1, 1)},
    }


def test_only_shared_leaves_out_cells_that_one_lacks():
    """A comparison of two methods stands on the cells that both have."""
    runs = judge([*series("plain", [True, True]), *series("rival", [True])], REFERENCES)
    assert [run.outcome.cell.seed for run in only_shared(runs, ["plain", "rival"])] == [0, 0]


def test_headline_counts_runs_within_bounds_and_what_is_added():
    """Clean runs, faults and rates within the bounds, the held-out task and batches that do not fit; nothing else."""
    outcomes = [
        outcome("ours, defaults"),
        outcome("ours, defaults", task="kept", scenario="one NaN"),
        outcome("ours, defaults", scenario="rate x10", score=BAD),
        outcome("ours, defaults", scenario="rate x0.01", score=BAD),
        outcome("plain"),
    ]
    extra = [MemoryRun("ours, defaults", 1, True), MemoryRun("plain", 1, False), MemoryRun("plain", 2, False)]
    ours, plain = headline(judge(outcomes, REFERENCES), ["ours, defaults", "plain"], extra=extra)
    assert isinstance(ours, Headline)
    assert (ours.paired.successes, ours.extra) == (Share(3, 4), Share(1, 1))
    assert (ours.paired.harmed, ours.paired.rescued, ours.paired.missing) == (Share(0, 1), Share(1, 1), 3)
    assert (plain.paired.successes, plain.extra) == (Share(1, 3), Share(0, 2))


def test_what_memory_runs_harm_counts_in_the_headline():
    """A plain run that fits and one of ours that fails is harm, as in training."""
    extra = [MemoryRun("ours, defaults", 1, False), MemoryRun("plain", 1, True)]
    runs = judge([outcome("ours, defaults"), outcome("plain")], REFERENCES)
    ours, chance = headline(runs, ["ours, defaults", NOISE], extra=extra)
    assert ours.paired.harmed == Share(1, 2)
    # Where a method took no part in it, its absence is none.
    assert chance.paired.missing == 1


def test_interventions_are_those_of_clean_runs():
    """Changes per run, and shares of all steps, in runs in which nothing is wrong."""
    ours = "ours, defaults"
    outcomes = [
        outcome(ours, steps=10, clipped_steps=3, changes={"clipping": 2, "rate": 0}),
        outcome(ours, seed=1, steps=30, clipped_steps=1, skipped_steps=2, changes={"clipping": 1}, own_errors=1),
        outcome(ours, scenario="one NaN", steps=10, clipped_steps=10, changes={"clipping": 9}),
    ]
    (found,) = interventions(judge(outcomes, REFERENCES), [ours, "rival"])
    assert found.runs == 2
    assert found.changes == {"clipping": 1.5, "rate": 0}
    assert (found.clipped, found.skipped, found.own_errors) == (0.1, 0.05, 1)


def test_seconds_are_relative_to_plain_in_the_same_cell():
    """The median of the ratios, from pairs that both end well."""
    plain = [outcome(seed=seed, seconds=2.0) for seed in range(4)]
    rival = [outcome("rival", seed=seed, seconds=seconds) for seed, seconds in enumerate([2.0, 3.0, 8.0])]
    broken = outcome("rival", seed=3, seconds=0.1, error="RuntimeError: it broke")
    runs = judge([*plain, *rival, broken], REFERENCES)
    assert relative_seconds(runs, "rival") == (1.5, 3)
    assert relative_seconds(runs, "another") == (None, 0)


def test_failures_are_counted_by_reason():
    """How runs of each method failed."""
    outcomes = [outcome(score=BAD), outcome(seed=1, score=BAD), outcome(seed=2, score=None), outcome(seed=3)]
    found = failures(judge(outcomes, REFERENCES), ["plain"])
    assert found == {"plain": {Failure.BELOW_MARGIN: 2, Failure.NOT_FINITE: 1}}


def test_what_does_nothing_is_the_same_as_plain():
    """The negative control finds no difference in runs with exactly the same figures, failed ones included."""
    figures = [
        {},
        {"score": math.nan, "test_loss": math.nan},
        {"score": None, "test_loss": None, "error": "RuntimeError: it broke"},
    ]
    outcomes = [
        outcome(method, seed=seed, **fields) for method in ("plain", "idle") for seed, fields in enumerate(figures)
    ]
    assert same_as_plain(outcomes, "idle") == []


@pytest.mark.parametrize(
    ("figure", "value"), [("score", GOOD + 1e-7), ("test_loss", 0.15 + 1e-9), ("score", None), ("test_loss", math.nan)]
)
def test_the_smallest_difference_from_plain_is_found(figure, value):
    """The negative control compares exactly."""
    (found,) = same_as_plain([outcome(), outcome("idle", **{figure: value})], "idle")
    assert (found.figure, found.plain) == (figure, GOOD if figure == "score" else 0.15)
    assert found.cell.method == "idle"


def test_a_control_that_compares_nothing_is_an_error():
    """Without a shared cell there is no evidence, which must not read as "no difference"."""
    with pytest.raises(ValueError, match="expected cells that 'plain' and 'idle' share, got none"):
        same_as_plain([outcome(), outcome("idle", seed=1)], "idle")


def test_seeds_of_which_only_clipping_was_measured_count_there_alone() -> None:
    """Two more of plain Lightning: not in its headline, where the others have none."""
    outcomes = [*series("plain", [True, False, False]), *series("plain", [False], scenario="rate x10")]
    runs = judge(outcomes, REFERENCES)
    assert [run.outcome.cell.seed for run in of_study("together", runs)] == [0, 0]
    assert of_study("clipping", runs) == runs
    (found,) = headline(runs, ["plain"])
    assert (found.paired.successes.count, found.paired.successes.total) == (1, 2)
