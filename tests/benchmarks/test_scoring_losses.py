"""Learning-rate sensitivity by hand, and where we lose: planted losses are found, and none is made up."""

import pytest

from benchmarks.scoring import Measure, Share, judge, losses, sensitivities
from tests.benchmarks.made_up import BAD, BUDGET, REFERENCES, STUDIES, outcome, series

OURS = "ours, defaults: clipping alone"
OURS_OF_RATES = "ours, defaults: learning rate alone"
PLACE = ("wine", "adamw")


def _with_losses(method, by_scenario):
    """One outcome for each scenario and loss, a loss a seed."""
    return [
        outcome(method, scenario=scenario, seed=seed, test_loss=loss)
        for scenario, losses_of_seeds in by_scenario.items()
        for seed, loss in enumerate(losses_of_seeds)
    ]


def test_sensitivity_by_hand():
    """Reference 0.1, start 1.1. Medians of the excess: 0.1, 0.4 and (capped at the start) 1.0; their mean is 0.5."""
    outcomes = _with_losses(
        "plain", {"clean": [0.1, 0.2, 0.9], "rate x0.1": [0.5, 0.5, 0.0], "rate x10": [7.0, 5.0, 0.3]}
    )
    found = sensitivities(judge(outcomes, REFERENCES))[PLACE]["plain"]
    assert found.excess == pytest.approx({0.1: 0.4, 1.0: 0.1, 10.0: 1.0})
    assert found.mean == pytest.approx(0.5)
    assert found.relative == pytest.approx(0.5)
    assert found.runs == 9


@pytest.mark.parametrize(
    "fields", [{"test_loss": None}, {"error": "RuntimeError: it broke"}, {"score": None}, {"samples": BUDGET + 1}]
)
def test_a_run_that_does_not_end_well_counts_as_its_start_loss(fields):
    """Whatever it had learnt before it raised, ended non-finite or saw too many samples."""
    found = sensitivities(judge([outcome(**{"test_loss": 0.1, **fields})], REFERENCES))[PLACE]["plain"]
    assert found.mean == pytest.approx(1.0)


def test_a_run_below_the_margin_counts_with_its_loss():
    """Sensitivity tells how far off a run is, not whether it succeeds."""
    found = sensitivities(judge([outcome(score=BAD, test_loss=0.3)], REFERENCES))[PLACE]["plain"]
    assert found.mean == pytest.approx(0.2)


def test_sensitivity_leaves_faults_out_and_needs_every_rate():
    """A method that lacks a rate that plain Lightning has gets no figure."""
    outcomes = [
        *_with_losses("plain", {"clean": [0.1], "rate x10": [1.1], "one NaN": [9.0]}),
        *_with_losses("rival of rates", {"clean": [0.1]}),
    ]
    found = sensitivities(judge(outcomes, REFERENCES))[PLACE]
    assert found["plain"].mean == pytest.approx(0.5)
    assert found["rival of rates"].mean is None
    assert found["rival of rates"].relative is None


def test_a_start_loss_that_is_not_known_is_an_error():
    """It would otherwise count as nothing lost."""
    with pytest.raises(ValueError, match="expected a finite loss before training"):
        sensitivities(judge([outcome(start_loss=None)], REFERENCES))


def _study(name):
    return {name: STUDIES[name]}


def test_no_loss_is_made_up():
    """Where ours is as good as every other method, nothing is reported."""
    outcomes = [
        outcome(method, task=task, scenario=scenario)
        for methods in STUDIES.values()
        for method in dict.fromkeys(methods)
        for task in ("wine", "kept")
        for scenario in ("clean", "random spikes", "rate x10")
    ]
    unique = {found.cell: found for found in outcomes}
    assert losses(judge(unique.values(), REFERENCES), STUDIES) == []


def test_a_planted_rescue_is_found():
    """A rival that rescues more is named with both figures."""
    faulty = {"scenario": "random spikes"}
    outcomes = [
        *series("plain", [False, False, False, False], **faulty),
        *series(OURS, [True, False, False, False], **faulty),
        *series("rival", [True, True, True, False], **faulty),
    ]
    rescue, on_task = losses(judge(outcomes, REFERENCES), _study("clipping"))
    assert (rescue.measure, rescue.place, rescue.ours) == (Measure.RESCUE, "finite faults, adamw", OURS)
    (ahead,) = rescue.peers
    assert (ahead.method, ahead.peer, ahead.ours, ahead.gap) == ("rival", Share(3, 4), Share(1, 4), 0.5)
    assert ahead.intervals_overlap is True
    assert (on_task.measure, on_task.place) == (Measure.SUCCESS, "finite faults, wine with adamw")


def test_a_planted_harm_is_found_and_the_worst_comes_first():
    """A rival, or plain Lightning, that harms less is named; the largest gap is told first."""
    outcomes = [
        *series("plain", [True] * 4, scenario="one NaN"),
        *series(OURS, [False, False, False, True], scenario="one NaN"),
        *series("rival", [True, False, True, True], scenario="one NaN"),
        *series("plain", [True] * 4),
        *series(OURS, [True, True, True, False]),
        *series("rival", [True] * 4),
    ]
    found = [loss for loss in losses(judge(outcomes, REFERENCES), _study("clipping")) if not loss.one_task]
    assert [(loss.place, loss.measure, loss.gap) for loss in found] == [
        ("non-finite faults, adamw", Measure.HARM, 0.75),
        ("clean runs, adamw", Measure.HARM, 0.25),
    ]
    assert [ahead.method for ahead in found[0].peers] == ["plain", "rival"]


def test_a_planted_sensitivity_is_found():
    """A rival whose loss suffers less from a rate that is off is named."""
    outcomes = [
        *_with_losses("plain", {"clean": [0.15], "rate x10": [0.9]}),
        *_with_losses(OURS_OF_RATES, {"clean": [0.15], "rate x10": [0.5]}),
        *_with_losses("rival of rates", {"clean": [0.15], "rate x10": [0.3]}),
    ]
    (found,) = losses(judge(outcomes, REFERENCES), _study("rate"))
    assert (found.measure, found.place) == (Measure.SENSITIVITY, "wine with adamw")
    (ahead,) = found.peers
    assert (ahead.method, ahead.ours, ahead.peer) == ("rival of rates", pytest.approx(0.225), pytest.approx(0.125))
    assert ahead.intervals_overlap is None


def test_a_loss_on_the_held_out_task_is_marked():
    """It is found, and told apart."""
    outcomes = [*series("plain", [True], task="kept"), *series(OURS, [False], task="kept")]
    assert {loss.held_out for loss in losses(judge(outcomes, REFERENCES), _study("clipping"))} == {True}


def test_runs_that_are_missing_help_no_one():
    """Ours and a rival are compared in the cells that both have."""
    faulty = {"scenario": "random spikes"}
    outcomes = [
        *series("plain", [False, False, False], **faulty),
        *series(OURS, [True, False, False], **faulty),
        *series("rival", [True], **faulty),
    ]
    assert losses(judge(outcomes, REFERENCES), _study("clipping")) == []


def test_a_study_without_our_defaults_is_an_error():
    """Comparing nothing would read as if we had lost nothing."""
    with pytest.raises(ValueError, match="expected a method whose name begins with 'ours, defaults'"):
        losses([], {"clipping": ("plain", "ours, tuned", "rival")})


def test_what_two_studies_say_alike_is_told_once():
    """The same runs stand in several studies; a loss to another peer in one of them is still told."""
    outcomes = [*series("plain", [True]), *series("ours, defaults", [False]), *series("rival", [True])]
    runs = judge(outcomes, REFERENCES)
    both = {"clipping": ("plain", "rival", "ours, defaults"), "together": ("plain", "ours, defaults")}
    assert {loss.study for loss in losses(runs, both)} == {"clipping"}
    apart = {"clipping": ("plain", "ours, defaults"), "rate": ("plain", "rival", "ours, defaults")}
    assert {loss.study for loss in losses(runs, apart) if loss.measure == Measure.HARM} == {"clipping", "rate"}
