"""The study of loss weights: its methods act, and its section counts what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.losses import LossJob, LossOutcome, section
from benchmarks.losses.judging import FIXED
from benchmarks.losses.study import METHODS, measure
from benchmarks.losses.tasks import TUMOURS
from benchmarks.losses.training import run

SHORT = replace(TUMOURS, steps=60)


@pytest.mark.parametrize("method", [name for name in METHODS if name != FIXED])
def test_every_method_changes_mis_set_weights(method: str) -> None:
    """In a short run; fixed weights stay."""
    job = LossJob(task=SHORT, seed=10, term="texture", factor=100.0)
    assert run(job, method=FIXED).weights == job.weights
    assert run(job, method=method, callbacks=METHODS[method]()).weights != job.weights


def test_a_run_that_ends_with_an_error_counts_as_one_without_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The study goes on."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("benchmarks.losses.study.run", broken)
    outcomes = list(measure(seeds=[10], tasks=[SHORT]))
    assert len(outcomes) == 7 * len(METHODS)
    assert all(set(outcome.scores.values()) == {None} for outcome in outcomes)


def test_the_section_counts_successes_by_factor() -> None:
    """A fixed run that is good, and one of each other method that has lost a term."""
    good = dict.fromkeys(SHORT.weights, 0.9)

    def outcome(method: str, factor: float, lost: bool) -> dict[str, Any]:
        scores = {**good, "texture": 0.1} if lost else good
        term = None if factor == 1.0 else "texture"
        return LossOutcome(
            task=SHORT.name, method=method, term=term, factor=factor, seed=0, steps=60, scores=scores, weights={},
        ).to_json()  # fmt: skip

    rows = [outcome(method, factor, method != FIXED) for method in METHODS for factor in (0.01, 1.0, 100.0)]
    text = section(rows, tasks=[SHORT])
    assert f"| {FIXED} | 2/2 | 1/1 | 1/1 | 1/1 | 0.0 (0.0) |" in text
    assert "| uncertainty, even shares | 0/2 | 0/1 | 0/1 | 0/1 | 88.9 (88.9) |" in text
