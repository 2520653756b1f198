from __future__ import annotations

import inspect
import math
import socket
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.outcome import Cell
from benchmarks.plan import FULL
from benchmarks.running import run
from benchmarks.store import read_json
from benchmarks.tasks import TASKS, Splits, Task, photographs, snippets, task_named, textures
from benchmarks.tuning import SCHEDULES, SEEDS, TUNED_FILE, tuned
from lightning_automations.cli.demo import photographs as demo

PAIRS = [(task.name, optimizer) for task in TASKS for optimizer in task.optimizers]
every_task = pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
every_pair = pytest.mark.parametrize(("task", "optimizer"), PAIRS)


def _perfect(task: Task, targets: Tensor) -> Tensor:
    """Outputs that cannot be better: the targets, or all weight on the right class."""
    if targets.is_floating_point():
        return targets
    classes = task.network()(task.splits().test.tensors[0][:1]).shape[-1]
    return 100.0 * functional.one_hot(targets, classes)


@every_task
def test_no_sample_is_in_two_sets(task: Task) -> None:
    """Training, validation and test data are three different sets."""
    splits = task.splits()
    sets = [
        {sample.numpy().tobytes() for sample in data.tensors[0]}
        for data in (splits.training, splits.validation, splits.test)
    ]
    for first, second in combinations(sets, 2):
        assert not first & second


@every_task
def test_a_batch_fits_and_a_run_has_epochs(task: Task) -> None:
    """Every split has inputs and targets of one shape, and the training set fills a batch."""
    splits = task.splits()
    assert len(splits.training) >= task.batch_size
    shapes = {
        tuple(tuple(tensor.shape[1:]) for tensor in data.tensors)
        for data in (splits.training, splits.validation, splits.test)
    }
    assert len(shapes) == 1


@every_task
def test_an_untrained_network_has_finite_loss_and_score(task: Task) -> None:
    """Loss and score are single finite numbers from the start, and the loss has gradients."""
    torch.manual_seed(0)
    network = task.network()
    inputs, targets = task.splits().validation.tensors
    outputs = network(inputs)
    loss, score = task.loss(outputs, targets), task.score(outputs, targets)
    loss.backward()
    assert loss.shape == score.shape == ()
    assert math.isfinite(loss.item())
    assert math.isfinite(score.item())
    assert all(parameter.grad is not None for parameter in network.parameters())


@every_task
def test_perfect_outputs_score_higher(task: Task) -> None:
    """A higher score is better, by far more than the margin."""
    torch.manual_seed(0)
    inputs, targets = task.splits().validation.tensors
    untrained = task.score(task.network()(inputs), targets)
    perfect = task.score(_perfect(task, targets), targets)
    assert math.isfinite(perfect.item())
    assert perfect > untrained + 3 * task.margin


@every_task
def test_data_is_the_same_whatever_the_seed_and_needs_no_network(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data is made anew without a socket, is what it was, and the making leaves the run's random state alone."""
    first = task.splits()
    monkeypatch.setattr(socket, "socket", _no_socket)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again: Splits = inspect.unwrap(task.splits)()
    assert torch.equal(torch.get_rng_state(), before)
    for of_first, of_again in zip(vars(first).values(), vars(again).values(), strict=True):
        assert of_first is not of_again
        assert all(map(torch.equal, of_first.tensors, of_again.tensors))


def _no_socket(*_: object, **__: object) -> None:
    raise OSError("the test allows no network")


@every_task
def test_data_is_made_once(task: Task) -> None:
    """Thousands of runs in a process share the data."""
    assert task.splits() is task.splits()


def test_photographs_of_the_sets_show_different_scenes() -> None:
    """No scene, and so no file, is in two sets; every name is that of a photograph."""
    names = [photographs.TRAINING, photographs.VALIDATION, photographs.TEST]
    assert len(set().union(*names)) == sum(map(len, names))
    assert set().union(*names) <= {photograph.name for photograph in (*demo.TRAINING, *demo.VALIDATION)}


def test_textures_of_the_sets_come_from_disjoint_columns() -> None:
    """No column of a picture is in two bands, so no two sets share a pixel."""
    columns = [column for start, width in textures.BANDS.values() for column in range(start, start + width)]
    assert sorted(columns) == list(range(textures.PERIOD))


def test_a_seed_gives_the_same_batches_in_the_same_order() -> None:
    """Methods that are compared on a seed see the same samples; another seed gives others."""
    task = task_named("wine")
    once, again, other = (torch.cat([inputs for inputs, _ in task.training_loader(seed=seed)]) for seed in (3, 3, 4))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_one_task_is_held_out() -> None:
    """One task is kept out of all design work, and its file says so first."""
    assert [task.name for task in TASKS if task.held_out] == ["snippets"]
    assert (snippets.__doc__ or "").startswith("HELD OUT")


def test_task_named_knows_all_and_no_other() -> None:
    """A name that is not in the table is refused with the table."""
    assert [task_named(task.name) for task in TASKS] == list(TASKS)
    with pytest.raises(ValueError, match=r"expected one of .*wine.*, got 'digits'"):
        task_named("digits")


@every_pair
def test_tuned_rates_lie_inside_what_was_tried(task: str, optimizer: str) -> None:
    """A best rate at the edge of the rates that were run would not be the best: both schedules have one inside."""
    (row,) = (row for row in read_json(TUNED_FILE)["tuned"] if (row["task"], row["optimizer"]) == (task, optimizer))
    for schedule in SCHEDULES:
        tried = sorted(map(float, row[schedule]["validation_scores"]))
        assert row[schedule]["rate"] in tried[1:-1]
    rates = tuned(task, optimizer)
    assert (rates.rate, rates.cosine_rate) == tuple(row[schedule]["rate"] for schedule in SCHEDULES)
    assert math.isfinite(rates.reference)
    assert math.isfinite(rates.reference_loss)


def test_tuned_file_holds_what_the_tasks_need_and_nothing_else() -> None:
    """A task that was renamed or dropped leaves no row behind, and the tuning's seeds are not the scoreboard's."""
    file = read_json(TUNED_FILE)
    assert [(row["task"], row["optimizer"]) for row in file["tuned"]] == PAIRS
    assert file["seeds"] == list(SEEDS)
    assert not set(SEEDS) & set(FULL.seeds)


def test_an_unknown_pair_has_no_tuned_rate() -> None:
    """The error names what is missing and the command that mends it."""
    with pytest.raises(ValueError, match="no entry for wine under adam: run python"):
        tuned("wine", "adam")


@pytest.mark.parametrize("method", ["plain", "cosine"])
def test_the_scoreboard_trains_as_the_tuning_did(method: str) -> None:
    """Lightning, given a seed of the tuning, starts from the same weights and ends within twice the margin."""
    task, seed = task_named("wine"), SEEDS[0]
    outcome = run(Cell(task=task.name, optimizer="sgd", scenario="clean", method=method, seed=seed))
    torch.manual_seed(seed)
    inputs, targets = task.splits().test.tensors
    assert outcome.start_loss == pytest.approx(task.loss(task.network()(inputs), targets).item())
    assert outcome.score == pytest.approx(tuned(task.name, "sgd").reference, abs=2 * task.margin)
