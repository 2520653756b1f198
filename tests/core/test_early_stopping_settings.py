"""The early stopper's settings."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.settings import RunLength


def test_criteria_are_named_or_all() -> None:
    """A name that does not exist is an error that lists those that do."""
    assert EarlyStoppingSettings(criteria=["plateau", "threshold"]).uses("threshold")
    assert not EarlyStoppingSettings(criteria=["plateau"]).uses("threshold")
    assert EarlyStoppingSettings().uses("overfitting")
    with pytest.raises(ConfigError) as caught:
        EarlyStoppingSettings(criteria=["plateaus"])
    assert str(caught.value) == (
        "IntelligentEarlyStopping.criteria.0: expected one of 'plateau', 'overfitting', 'convergence', 'non_finite',"
        " 'threshold', got 'plateaus' (str). Did you mean 'plateau'?"
    )


def test_settings_that_contradict_each_other_are_reported_together() -> None:
    """No measure of improvement at all, and a threshold that no criterion looks at."""
    with pytest.raises(ConfigError) as caught:
        EarlyStoppingSettings(
            min_improvement=None, improvement_threshold=None, criteria=["plateau"], divergence_threshold=9.0
        )
    assert str(caught.value).splitlines()[1:] == [
        "  IntelligentEarlyStopping.min_improvement: expected a number, for improvement_threshold is null too, got"
        " null. Nothing would ever count as an improvement; 0 lets every new best count.",
        "  IntelligentEarlyStopping.criteria: expected 'threshold' among them, for divergence_threshold is set, got"
        " ['plateau']. Add 'threshold' to criteria or leave divergence_threshold out.",
    ]


def test_defaults_are_shortened_to_the_run_and_what_is_written_holds() -> None:
    """The shares that the documentation of the settings states."""
    run = RunLength(steps=1000, epochs=20)
    short = EarlyStoppingSettings(min_iterations=700).fitted(run, written={"min_iterations"})
    assert (short.patience, short.max_no_improvement, short.min_iterations) == (300, 300, 700)
    assert (short.warmup_iterations, short.min_epochs) == (50, 2)


def test_a_default_never_cuts_a_written_patience_short() -> None:
    """The hard limit of steps without any new best is 2,000 or less unless written; a longer patience raises it."""
    run = RunLength(steps=10_000)
    assert EarlyStoppingSettings(patience=5000).fitted(run, written={"patience"}).max_no_improvement == 5000
    both = EarlyStoppingSettings(patience=5000, max_no_improvement=50)
    assert both.fitted(run, written={"patience", "max_no_improvement"}).max_no_improvement == 50


@pytest.mark.parametrize(
    ("given", "growth"),
    [
        ({}, 0.3),
        ({"patience": 500}, 0.0),
        ({"patience_growth": 0.1}, 0.1),
        ({"patience": 9, "patience_growth": 0.5}, 0.5),
    ],
)
def test_a_patience_that_is_written_does_not_grow_by_itself(given: dict[str, Any], growth: float) -> None:
    """What is written holds; the default grows."""
    fitted = EarlyStoppingSettings(**given).fitted(RunLength(steps=10_000), written=set(given))
    assert fitted.patience_growth == growth


@pytest.mark.parametrize(
    ("changes", "run", "obstacles"),
    [
        ({}, RunLength(), []),
        ({}, RunLength(steps=50_000, epochs=2000), []),
        ({}, RunLength(steps=40_000, epochs=40), ["min_epochs is 1000 and the run has 40 epochs"]),
        (
            {"min_epochs": 0, "warmup_iterations": 900},
            RunLength(steps=900),
            ["min_iterations is 5000 and the run has 900 steps", "warmup_iterations is 900 and the run has 900 steps"],
        ),
        ({"criteria": []}, RunLength(), ["criteria is empty"]),
        (
            {"criteria": ["plateau"], "min_epochs": 0, "min_iterations": 0, "warmup_iterations": 100},
            RunLength(steps=2000, epochs=9),
            ["a plateau takes 2000 steps after the warm-up of 100 and the run has 2000 steps"],
        ),
    ],
)
def test_what_keeps_it_from_acting_is_known_at_the_start(
    changes: dict[str, Any], run: RunLength, obstacles: list[str]
) -> None:
    """Gates that lie beyond the run are named with both numbers."""
    assert EarlyStoppingSettings(**changes).obstacles(run) == obstacles
