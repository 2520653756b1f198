import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.stopping import replayed, section
from benchmarks.stopping.checks import check
from benchmarks.stopping.curve import Curve
from benchmarks.stopping.front import EVERYTHING, Point, front, panels
from benchmarks.stopping.jobs import Regime
from benchmarks.stopping.published import GeneralizationLoss
from benchmarks.stopping.replay import replay
from benchmarks.stopping.rules import RULES, Rule
from tests.benchmarks.stopping_curves import made_up_curve

NEVER = RULES[0]
GL5 = Rule(name="GL5", source="by hand", start=lambda _: GeneralizationLoss(5))
# Stopped at the third of ten validations; the best comes at the ninth.
RISING = made_up_curve(
    [1.0, 0.8, 0.9, 0.7, 0.6, 0.5, 0.5, 0.5, 0.4, 0.41],
    test_losses=[1.0, 0.6, 0.7, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5, 0.6],
    test_scores=[0.1, 0.8, 0.2, 0.8, 0.8, 0.8, 0.8, 0.8, 0.84, 0.9],
)


def recorded(*curves: Curve) -> dict[str, list[dict[str, object]]]:
    """As a measurement returns it."""
    return {"curves": [curve.as_json() for curve in curves]}


def test_a_replay_says_what_was_saved_and_what_was_given_up() -> None:
    """Stopped after 3 of 10; the best so far has a test loss of 0.6 where the full run's best has 0.5."""
    found = replay(GL5, RISING)
    assert found.stopped
    assert found.saved == pytest.approx(0.7)
    assert found.slack == pytest.approx(0.2)
    assert found.slack_at_stop == pytest.approx(0.4)
    assert found.is_worse
    assert found.succeeded, "0.8 is within 0.05 of 0.84, the score at the full run's best validation"


def test_the_full_run_saves_nothing_and_gives_up_nothing() -> None:
    """And its weights at the end are not those of its best validation."""
    found = replay(NEVER, RISING)
    assert not found.stopped
    assert (found.saved, found.slack) == (0, 0)
    assert found.slack_at_stop == pytest.approx(0.2)


def test_a_stop_at_the_last_validation_is_no_stop() -> None:
    """There is nothing left to save."""
    found = replay(GL5, made_up_curve([1.0, 0.9, 1.0]))
    assert not found.stopped
    assert found.saved == 0


def test_a_score_below_the_margin_is_no_success() -> None:
    """0.78 is 0.06 below 0.84."""
    scores = [0.1, 0.78, *RISING.test_scores[2:]]
    assert not replay(GL5, replace(RISING, test_scores=tuple(scores))).succeeded


def test_the_test_data_do_not_decide_when_to_stop() -> None:
    """Other test losses, the same stop."""
    other = replace(RISING, test_losses=tuple(reversed(RISING.test_losses)))
    assert replay(GL5, other).saved == replay(GL5, RISING).saved


def test_validations_that_are_not_finite_are_never_the_best() -> None:
    """Nor is a test loss that is not a number within 5 %."""
    curve = made_up_curve([math.nan, 1.0, math.inf, 0.9], test_losses=[math.nan, math.nan, 1.0, 1.0])
    assert curve.best(until=1) == 1
    assert curve.best_share == 1.0
    stops_at_second = Rule(name="second", source="", start=lambda _: lambda now: now.step == 20)
    assert replay(stops_at_second, curve).is_worse


def test_every_installed_rule_meets_every_curve() -> None:
    """Paired: the same curves for all."""
    absent = replace(GL5, name="absent", package="a_package_that_nobody_has")
    rows = replayed(recorded(RISING, replace(RISING, seed=1)), [NEVER, absent, GL5])
    assert [(row.rule, row.curve.seed) for row in rows] == [(NEVER.name, 0), (NEVER.name, 1), ("GL5", 0), ("GL5", 1)]


# The checks of the regimes --------------------------------------------------------------------------------------------


def with_best_at(place: int, regime: Regime) -> Curve:
    """A run of 100 validations whose best is this one, counted from 1."""
    return made_up_curve([1.0 + abs(index + 1 - place) for index in range(100)], regime=regime)


@pytest.mark.parametrize(
    ("regime", "places", "holds"),
    [
        (Regime.LATE, (10, 60, 100), True),
        (Regime.LATE, (10, 54, 100), False),
        (Regime.LATE, (10, 66, 100), False),
        (Regime.EARLY, (1, 10, 20), True),
        (Regime.EARLY, (1, 9, 20), False),
        (Regime.SLOW, (10, 85, 90), True),
        (Regime.SLOW, (10, 84, 90), False),
    ],
)
def test_the_median_best_step_decides_about_a_regime(regime: Regime, places: tuple[int, ...], holds: bool) -> None:
    """Late: 55 to 65 % of the budget. Early: a tenth of it or later. Slow improvers: 85 % or later."""
    found = check(regime, [with_best_at(place, regime) for place in places])
    assert found.holds is holds
    assert found.best_share == pytest.approx(sorted(places)[1] / 100)


# The section ----------------------------------------------------------------------------------------------------------


def test_the_section_prints_checks_and_tables() -> None:
    """Counts, medians and intervals of made-up runs; the held-out task is in its own table alone."""
    held_out = replace(RISING, task="snippets", held_out=True, job="another job")
    text = section(recorded(RISING, replace(RISING, seed=1), held_out), [NEVER, GL5])
    lines = text.splitlines()
    assert "| late | 2 | 90 (90 to 90) | 1.1 | median best step at 55 to 65 % of the budget | **no** |" in lines
    row = (
        "| GL5 | 2/2 | 70 (70 to 70) | 70 | 20.0 (20.0 to 20.0) | 20.00"
        " | 2/2, 100 % (34 to 100) | 2/2, 100 % (34 to 100) | 40.0 (40.0 to 40.0) | yes |"
    )
    assert row in lines
    assert "| rule | late (best step at 90 %): saved, % | worse |" in lines
    assert "| GL5 | 70 | 1/1 |" in lines
    assert "| late | snippets (held out) | sgd | 100 | 5 | 90 |" in lines
    assert "Not installed" not in text


def test_the_section_names_rules_that_could_not_be_replayed() -> None:
    """A table without them does not pass for the whole one."""
    absent = replace(GL5, name="absent", package="a_package_that_nobody_has")
    text = section(recorded(RISING), [GL5, absent])
    assert "Not installed, and therefore not replayed: absent." in text


def test_the_front_is_what_no_other_rule_beats() -> None:
    """More saved at the same risk beats, more saved at more risk does not, and equals stand side by side."""
    found = [
        Point(rule="never", saved=0.0, worse=0.0),
        Point(rule="careful", saved=0.3, worse=0.0),
        Point(rule="the same", saved=0.3, worse=0.0),
        Point(rule="bold", saved=0.6, worse=0.2),
        Point(rule="bad", saved=0.5, worse=0.3),
    ]
    assert [point.rule for point in front(found)] == ["careful", "the same", "bold"]


def test_all_regimes_together_count_the_same(tmp_path: Path) -> None:
    """One run of the one regime weighs as much as two of the other; the picture shows each panel."""
    slow = replace(RISING, regime=Regime.SLOW.value)
    replays = replayed(recorded(RISING, replace(RISING, seed=1), slow), [NEVER, GL5])
    assert list(panels(replays)) == [RISING.regime, Regime.SLOW.value, EVERYTHING]
    assert panels(replays)[EVERYTHING][1] == Point(rule="GL5", saved=pytest.approx(0.7), worse=1.0)
    text = section(recorded(RISING, slow), [NEVER, GL5], plots_folder=tmp_path / "plots")
    assert "](plots/stopping.png)" in text
    assert (tmp_path / "plots" / "stopping.png").stat().st_size > 1000
