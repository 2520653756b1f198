"""The study of mis-set loss weights."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.losses import FACTORS, TASKS, LossJob, LossOutcome, LossTask, harm_percent, jobs, references, succeeds
from benchmarks.losses import run as run_job
from benchmarks.losses.judging import FIXED
from benchmarks.losses.tasks import TUMOURS

every_task = pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
SHORT = replace(TUMOURS, steps=4)
GOOD = {"diagnosis": 0.9, "texture": 0.8, "smoothness": 0.5}


def _outcome(scores: dict[str, float | None], *, method: str = FIXED, term: str | None = None) -> LossOutcome:
    return LossOutcome(
        task="tumours", method=method, term=term, factor=1.0, seed=0, steps=4, scores=scores, weights=TUMOURS.weights
    )


def test_there_are_tasks_of_two_and_of_three_terms() -> None:
    """A method that can only tell two terms apart is seen."""
    assert sorted(len(task.weights) for task in TASKS) == [2, 3]


@every_task
def test_no_sample_is_in_two_sets(task: LossTask) -> None:
    """Training, validation and test data are three different sets, together as large as they are meant to be."""
    splits = task.splits()
    sets = [
        {sample.numpy().tobytes() for sample in data.tensors[0]}
        for data in (splits.training, splits.validation, splits.test)
    ]
    assert all(sets)
    for first, second in combinations(sets, 2):
        assert not first & second


@every_task
def test_each_term_has_a_gradient_a_score_a_weight_and_a_margin(task: LossTask) -> None:
    """Every term is finite, moves the part of the network that all share, and is judged."""
    torch.manual_seed(0)
    network = task.network()
    inputs, targets = (tensor[:8] for tensor in task.splits().training.tensors)
    shared = next(network.parameters())
    with torch.no_grad():
        for parameter in network.parameters():  # the last layer of the photographs' network starts at zero
            parameter.add_(0.01)
    terms = task.terms(network(inputs), targets)
    scores = task.scores(network(inputs), targets)
    assert set(terms) == set(scores) == set(task.weights) == set(task.margins)
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, shared, retain_graph=True)
        assert gradient.abs().sum() > 0, name
        assert torch.isfinite(term)
        assert torch.isfinite(scores[name])


def test_every_weight_is_mis_set_both_ways() -> None:
    """For each seed one run with well-set weights, and one for each term and factor, that changes this term only."""
    made = jobs(TUMOURS, seeds=(10, 11))
    assert len(made) == 2 * (1 + 3 * len(FACTORS))
    assert {(job.seed, job.term, job.factor) for job in made if job.term is None} == {(10, None, 1.0), (11, None, 1.0)}
    (job,) = (job for job in made if (job.seed, job.term, job.factor) == (10, "texture", 100.0))
    assert job.weights == {"diagnosis": 1.0, "texture": 100.0, "smoothness": 1.0}


def test_a_run_is_the_same_again_and_leaves_the_random_state_alone() -> None:
    """Only seed and weights decide; what is recorded goes into a file."""
    job = LossJob(task=SHORT, seed=10)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = run_job(job, method=FIXED)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == run_job(job, method=FIXED)
    assert first.steps == 4
    assert first.scores != run_job(replace(job, seed=11), method=FIXED).scores
    assert LossOutcome(**json.loads(json.dumps(first.to_json()))) == first


class _Weigh(Callback):
    """A method as any other: sets a weight after the first batch, and keeps the terms that it was shown."""

    def __init__(self) -> None:
        self.seen: list[set[str]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen.append(set(outputs["loss_terms"]))
        pl_module.loss_weights["texture"] = 3.0


def test_a_callback_sees_the_terms_and_its_weights_count() -> None:
    """What a callback writes is what the next step uses, and the task's own weights stay as they are."""
    job = LossJob(task=SHORT, seed=10, term="texture", factor=0.01)
    callback = _Weigh()
    changed = run_job(job, method="ours", callbacks=[callback])
    assert callback.seen == [set(SHORT.weights)] * 4
    assert changed.weights["texture"] == 3.0
    assert changed.scores != run_job(job, method=FIXED).scores
    assert job.weights["texture"] == SHORT.weights["texture"] * 0.01


def test_the_reference_is_the_mean_of_well_set_fixed_runs() -> None:
    """Runs of other methods and with mis-set weights do not count."""
    outcomes = [
        _outcome(GOOD),
        _outcome({name: score + 0.1 for name, score in GOOD.items()}),
        _outcome(dict.fromkeys(GOOD, 0.0), term="texture"),
        _outcome(dict.fromkeys(GOOD, 0.0), method="ours"),
    ]
    assert references(outcomes, TUMOURS) == pytest.approx({name: score + 0.05 for name, score in GOOD.items()})


@pytest.mark.parametrize("outcomes", [[], [_outcome({**GOOD, "texture": None})]])
def test_without_finite_well_set_runs_nothing_is_judged(outcomes: list[LossOutcome]) -> None:
    """There is no reference then."""
    with pytest.raises(ValueError, match="tumours"):
        references(outcomes, TUMOURS)


@pytest.mark.parametrize(
    ("change", "success", "harm"),
    [
        ({}, True, 0.0),
        ({"diagnosis": 1.0}, True, 0.0),
        ({"texture": 0.76}, True, 5.0),
        ({"texture": 0.74, "diagnosis": 1.0}, False, 7.5),
        ({"smoothness": None}, False, 100.0),
    ],
)
def test_no_term_may_be_given_up(change: dict[str, float | None], success: bool, harm: float) -> None:
    """The worst term decides on success and on harm."""
    outcome = _outcome({**GOOD, **change})
    assert succeeds(outcome, TUMOURS, GOOD) is success
    assert harm_percent(outcome, GOOD) == pytest.approx(harm)
