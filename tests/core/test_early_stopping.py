"""Where the early stopper ends a sequence of numbers, and why; Lightning's rule as one of its settings."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.early_stopping import EarlyStoppingBrain
from tests.core.stopping import FALLING, INTERVAL, first_stop, settings


@pytest.mark.parametrize(
    ("changes", "curve", "higher_is_better", "index", "reason"),
    [
        pytest.param({}, FALLING, False, None, None, id="improves for ever"),
        pytest.param({}, [1.0, 0.5, *[0.5] * 9], False, 4, Reason.PLATEAU, id="flat, lower is better"),
        pytest.param({}, [1.0, 1.5, *[1.5] * 9], True, 4, Reason.PLATEAU, id="flat, higher is better"),
        pytest.param({}, [-3.0, -2.0, *[-2.0] * 9], True, 4, Reason.PLATEAU, id="negative score, flat"),
        pytest.param(
            {"min_improvement": None, "improvement_threshold": 0.1},
            [-10.0, -8.0, -6.0, -4.0, -3.0, -2.0, -1.5, -1.2],
            True,
            None,
            None,
            id="negative score, improves by more than a tenth of its size",
        ),
        pytest.param(
            {"min_improvement": 0.3, "improvement_threshold": None},
            [1.0, 0.9, 0.8, 0.69, 0.6, 0.5, 0.38],
            False,
            None,
            None,
            id="small steps add up against the last accepted best",
        ),
        pytest.param(
            {"min_improvement": 0.3, "improvement_threshold": None},
            [1.0, 0.9, 0.8, 0.75, 0.74],
            False,
            3,
            Reason.PLATEAU,
            id="small steps that do not add up to enough",
        ),
        pytest.param(
            {"min_improvement": 5.0, "improvement_threshold": 0.01}, FALLING, False, None, None, id="relative suffices"
        ),
        pytest.param(
            {"min_improvement": 0.005, "improvement_threshold": 5.0}, FALLING, False, None, None, id="absolute suffices"
        ),
        pytest.param(
            {"patience": 500, "max_no_improvement": 40}, [1.0] * 9, False, 4, Reason.PLATEAU, id="no new best at all"
        ),
        pytest.param(
            {"patience": 100, "min_improvement": 9.0, "improvement_threshold": None, "max_no_improvement": 40},
            FALLING,
            False,
            10,
            Reason.PLATEAU,
            id="new bests, all too small: patience ends it, the hard limit does not",
        ),
        pytest.param({}, [1.0, math.nan, 0.9, math.inf, 0.8, math.nan, 0.7], False, None, None, id="lone NaNs"),
        pytest.param({}, [1.0, math.nan, math.nan], False, 2, Reason.NON_FINITE, id="two NaNs in a row"),
        pytest.param({}, [math.inf, -math.inf], False, 1, Reason.NON_FINITE, id="nothing but infinities"),
        pytest.param(
            {"check_finite": False, "patience": 100}, [1.0, *[math.nan] * 9], False, None, None, id="NaN not checked"
        ),
        pytest.param({"check_finite": False}, [1.0, *[math.nan] * 9], False, 3, Reason.PLATEAU, id="NaN is no best"),
        pytest.param(
            {"stopping_threshold": 0.9}, [1.0, 0.9, 0.89], False, 2, Reason.THRESHOLD_REACHED, id="good enough"
        ),
        pytest.param(
            {"stopping_threshold": 30.0}, [29.0, 31.0], True, 1, Reason.THRESHOLD_REACHED, id="good enough, higher"
        ),
        pytest.param({"divergence_threshold": 2.0}, [1.0, 2.0, 2.1], False, 2, Reason.THRESHOLD_CROSSED, id="diverged"),
        pytest.param(
            {"divergence_threshold": 5.0}, [6.0, 4.9], True, 1, Reason.THRESHOLD_CROSSED, id="diverged, higher"
        ),
        pytest.param({"criteria": ["non_finite"]}, [1.0] * 50, False, None, None, id="plateau switched off"),
        pytest.param({"criteria": ["plateau"]}, [1.0, math.nan, math.nan, 0.5], False, None, None, id="NaN off"),
        pytest.param({"criteria": []}, [math.nan] * 50, False, None, None, id="all off"),
    ],
)
def test_the_first_stop_of_a_sequence(
    changes: dict[str, Any], curve: Sequence[float], higher_is_better: bool, index: int | None, reason: Reason | None
) -> None:
    """Where a run is stopped, and why."""
    stop = first_stop(EarlyStoppingBrain(settings(**changes)), curve, higher_is_better=higher_is_better)
    assert (stop and (stop[0], stop[1].reason)) == (None if index is None else (index, reason))


def test_the_adjustment_says_what_when_and_the_numbers_behind_it() -> None:
    """The journal's entry of a stop: reason, wait, current and best value."""
    stop = first_stop(EarlyStoppingBrain(settings()), [1.0, 0.5, 0.6, 0.6, 0.7])
    assert stop is not None
    assert stop[1] == Adjustment(
        step=50,
        epoch=4,
        automation="IntelligentEarlyStopping",
        parameter="should_stop",
        old=False,
        new=True,
        reason=Reason.PLATEAU,
        evidence={"waited_steps": 30, "patience": 30, "metric": 0.7, "best": 0.5, "best_step": 20},
    )


def test_evidence_is_json() -> None:
    """NaN and infinity, which JSON does not know, are left out of the numbers behind a verdict."""
    stop = first_stop(EarlyStoppingBrain(settings()), [math.nan, math.nan])
    assert stop is not None
    assert stop[1].evidence == {"in_a_row": 2}


def random_curve(source: random.Random) -> list[float]:
    """A noisy curve with a trend that ends somewhere; in 64ths, so that float32 and float64 agree exactly."""
    slope, noise, bend = source.choice([-2, -1, 0, 1]), source.randint(0, 30), source.randint(1, 40)
    return [(slope * min(index, bend) + source.randint(-noise, noise)) / 64 for index in range(60)]


def test_with_equal_settings_it_stops_where_lightning_stops() -> None:
    """On 1,000 random curves: patience of k judgements, the same least improvement, no gates, plateau alone."""
    source = random.Random(7)
    stopped = 0
    for _ in range(1000):
        patience, delta = source.randint(1, 12), source.randint(0, 8) / 64
        higher_is_better, curve = source.random() < 0.5, random_curve(source)
        lightning = EarlyStopping(
            "metric", min_delta=delta, patience=patience, mode="max" if higher_is_better else "min"
        )
        verdicts = [lightning._evaluate_stopping_criteria(torch.tensor(value))[0] for value in curve]
        expected = verdicts.index(True) if True in verdicts else None
        brain = EarlyStoppingBrain(
            settings(
                patience=patience * INTERVAL, min_improvement=delta, improvement_threshold=None, criteria=["plateau"]
            )
        )
        stop = first_stop(brain, curve, higher_is_better=higher_is_better)
        assert (None if stop is None else stop[0]) == expected
        stopped += expected is not None
    assert 200 < stopped < 1000
