"""The study of loss weights: its methods act, and its section counts what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.losses import LossJob, LossOutcome, section
from benchmarks.losses.__main__ import main
from benchmarks.losses.judging import FIXED
from benchmarks.losses.study import METHODS, measure
from benchmarks.losses.tasks import TUMOURS
from benchmarks.losses.training import run
from benchmarks.store import read_json

SHORT = replace(TUMOURS, steps=60)


@pytest.mark.parametrize("method", [name for name in METHODS if name != FIXED])
def test_every_method_changes_mis_set_weights(method: str) -> None:
    """In a short run; fixed weights stay."""
    job = LossJob(task=SHORT, seed=10, term="texture", factor=100.0)
    assert run(job, method=FIXED).weights == job.weights
    assert run(job, method=method, callbacks=METHODS[method](SHORT)).weights != job.weights


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
    assert (
        "do not earn their cost here: with them at most 0 of the mis-set runs succeed, with the terms alone 2." in text
    )


def test_gradients_earn_their_cost_where_they_rescue_more() -> None:
    """Than the best of the methods that look at the terms alone."""
    scores = dict.fromkeys(SHORT.weights, 0.9)

    def outcome(method: str, texture: float, term: str | None) -> dict[str, Any]:
        return LossOutcome(
            task=SHORT.name, method=method, term=term, factor=0.01 if term else 1.0, seed=0, steps=60,
            scores={**scores, "texture": texture}, weights={},
        ).to_json()  # fmt: skip

    rows = [outcome(method, 0.9, None) for method in METHODS]
    rows += [outcome(method, 0.9 if "gradnorm" in method else 0.1, "texture") for method in METHODS]
    assert "The gradients earn their cost here: with them at most 1" in section(rows, tasks=[SHORT])


def test_methods_measured_again_replace_their_rows_and_leave_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One method is measured where the file has all: its rows are new, the others' the old ones."""
    file, again = tmp_path / "rows.json", "uncertainty, even shares"
    job = LossJob(task=TUMOURS, seed=0)

    def quick(job: LossJob, *, method: str, callbacks: Any) -> LossOutcome:
        return LossOutcome(
            task=job.task.name, method=method, term=job.term, factor=job.factor, seed=job.seed, steps=len(steps),
            scores=dict.fromkeys(job.weights, 0.9), weights=job.weights,
        )  # fmt: skip

    monkeypatch.setattr("benchmarks.losses.study.run", quick)
    monkeypatch.setattr("benchmarks.losses.__main__.quiet_worker", lambda: None)  # it silences the whole process
    steps: list[int] = []
    for methods in (list(METHODS), [again]):
        steps.append(1)
        command = ["--seeds", "0", "--tasks", job.task.name, "--json", str(file), "--methods", *methods]
        assert main(command) == 0
    rows = read_json(file)["rows"]
    assert {row["method"] for row in rows if row["steps"] == 2} == {again}
    assert len(rows) == 7 * len(METHODS)
