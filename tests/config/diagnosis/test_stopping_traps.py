"""A stopper that can never stop: no validation, or no room for a plateau. All changes together mend it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lightning_automations.config.analysis.patience import earliest_stop, patience_of_validations
from lightning_automations.config.diagnosis.finding import Diagnosis, Finding, Status
from tests.config.diagnosis.test_diagnosing import diagnosed, findings

LR, STOP = "IntelligentLearningRateScheduler", "IntelligentEarlyStopping"
PATH = f"training_automations.{STOP}"


def _file(stopping: str, *, steps: int = 40_000, val: str = "") -> str:
    return f"train: {{total_iter: {steps}}}\n{val}training_automations:\n  {STOP}: {stopping}\n"


def _mended(text: str, found: list[Finding], folder: Path) -> Diagnosis:
    """The file with all values that are said to mend it."""
    data = yaml.safe_load(text)
    for finding in found:
        assert finding.change is not None
        *way, last = finding.change.path.split(".")
        inner = data
        for key in way:
            inner = inner[key]
        inner[last] = finding.change.value
    return diagnosed(yaml.safe_dump(data), folder)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("train: {total_iter: 40000}\nval: {val_freq: 50000}\n", "val.val_freq", "is 50000 and the run has 40000"),
        (
            "trainer: {max_steps: 40000, val_check_interval: 50000}\n",
            "trainer.val_check_interval",
            "the run has 40000 batches",
        ),
        (
            "trainer: {max_steps: 10, accumulate_grad_batches: 4, val_check_interval: 41}\n",
            "trainer.val_check_interval",
            "the run has 40 batches",
        ),
        ("trainer: {limit_val_batches: 0}\n", "trainer.limit_val_batches", "is 0"),
        ("trainer: {limit_val_batches: 0.0}\n", "trainer.limit_val_batches", "is 0"),
        (
            "trainer: {max_epochs: 10, check_val_every_n_epoch: 20}\n",
            "trainer.check_val_every_n_epoch",
            "the run has 10 epochs",
        ),
    ],
)
def test_without_a_validation_in_the_run_nothing_can_be_stopped(
    text: str, path: str, words: str, tmp_path: Path
) -> None:
    """It is told where validation is set; nothing else is."""
    section = f"training_automations:\n  {STOP}: {{monitor_metric: val/loss, patience: 300}}\n"
    (finding,) = findings(diagnosed(text + section, tmp_path), STOP)
    assert (finding.path, finding.line, finding.status) == (path, text.count("\n"), Status.WITHOUT_EFFECT)
    assert words in finding.found
    assert not finding.note


@pytest.mark.parametrize(
    "trainer",
    [
        "{max_steps: 10, accumulate_grad_batches: 4, val_check_interval: 40}",
        "{limit_val_batches: 0.1, max_steps: 9}",
        "{max_epochs: 10, check_val_every_n_epoch: 10}",
        "{max_epochs: 10, check_val_every_n_epoch: null}",
        "{val_check_interval: 1.0, max_steps: 9}",
    ],
)
def test_a_validation_that_may_come_is_none_that_never_comes(trainer: str, tmp_path: Path) -> None:
    """Where the file leaves it open nothing is said."""
    text = f"trainer: {trainer}\ntraining_automations:\n  {STOP}: {{monitor_metric: val/loss}}\n"
    assert findings(diagnosed(text, tmp_path), STOP) == []


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ("{monitor_metric: val/loss}", 1),
        ("{monitor_loss: false}", 1),
        ("{monitor_metric: train/loss}", 0),
        ("{monitor_metric: val/loss, monitor_validation: false}", 0),
        ("", 0),
    ],
)
def test_the_learning_rate_needs_a_validation_only_where_it_says_so(settings: str, count: int, tmp_path: Path) -> None:
    """The training loss is enough; a metric of training comes without validation."""
    text = f"trainer: {{limit_val_batches: 0}}\ntraining_automations:\n  {LR}: {settings}\n"
    assert len(findings(diagnosed(text, tmp_path), LR)) == count


@pytest.mark.parametrize(
    ("stopping", "val", "changes"),
    [
        (
            "{min_iterations: 39000, warmup_iterations: 38000, patience: 39000, max_no_improvement: 39000}",
            "",
            {"patience": 8000, "warmup_iterations": 1000},
        ),
        ("{warmup_iterations: 60000}", "", {"warmup_iterations": 1000}),
        ("{warmup_iterations: 39000}", "", {"warmup_iterations": 1000}),
        ("{warmup_iterations: 30000, patience: 20000, max_no_improvement: 30000}", "", {"patience": 8000}),
        ("{patience: 50000}", "", {"patience": 8000}),
        (
            "{criteria: [plateau], patience: 50000, max_no_improvement: 50000}",
            "",
            {"patience": 8000},
        ),
        ("{patience: 38999, max_no_improvement: 38999}", "val: {val_freq: 10000}\n", {"patience": 20_000}),
        (
            "{patience: 300, warmup_iterations: 60000}",
            "val: {val_freq: 5000}\n",
            {"patience": 20_000, "warmup_iterations": 1000},
        ),
        ("{min_iterations: 39900}", "val: {val_freq: 500}\n", {"min_iterations": 5000}),
        (
            "{patience: 300, warmup_iterations: 25000}",
            "val: {val_freq: 5000}\n",
            {"patience": 10_000},
        ),
    ],
)
def test_advice_that_is_followed_mends(stopping: str, val: str, changes: dict[str, int], tmp_path: Path) -> None:
    """What is written and in the way is named, in the order in which it is lowered; nothing that is not written."""
    text = _file(stopping, val=val)
    found = findings(diagnosed(text, tmp_path), STOP)
    assert {finding.path.rpartition(".")[2]: finding.change and finding.change.value for finding in found} == changes
    assert [finding for finding in findings(_mended(text, found, tmp_path), STOP) if not finding.note] == []


@pytest.mark.parametrize(
    ("steps", "val", "path"),
    [(40_000, "val: {val_freq: 39000}\n", "val.val_freq"), (40_000, "val: {val_freq: 20000}\n", "val.val_freq"),
     (2, "", PATH)],
)  # fmt: skip
def test_where_no_patience_leaves_room_validation_is_to_blame(steps: int, val: str, path: str, tmp_path: Path) -> None:
    """Or the length of the run."""
    (finding,) = findings(diagnosed(_file("", steps=steps, val=val), tmp_path), STOP)
    assert (finding.path, finding.change) == (path, None)


def test_a_patience_of_one_validation_is_found_without_the_length(tmp_path: Path) -> None:
    """Five validations are offered; one that is exactly as long as the way to the next validation is too short."""
    text = f"val: {{val_freq: 500}}\ntraining_automations:\n  {STOP}: {{patience: 500}}\n"
    (finding,) = findings(diagnosed(text, tmp_path), STOP)
    assert finding.change is not None
    assert finding.change.value == 2500
    assert findings(_mended(text, [finding], tmp_path), STOP) == []


def test_without_the_length_or_the_criterion_nothing_is_said_of_plateaus(tmp_path: Path) -> None:
    """It cannot be known, or is not waited for."""
    text = f"training_automations:\n  {STOP}: {{patience: 50000, max_no_improvement: 50000}}\n"
    assert findings(diagnosed(text, tmp_path), STOP) == []
    other = _file("{criteria: [overfitting], patience: 50000, max_no_improvement: 50000}")
    assert findings(diagnosed(other, tmp_path), STOP) == []


@pytest.mark.parametrize("steps", [3, 100, 9999, 40_000])
@pytest.mark.parametrize("between", [1, 7, 100, 3000, 10_000])
@pytest.mark.parametrize("warmup", [0, 1, 5000])
def test_a_patience_of_validations_leaves_a_tenth_of_the_run(steps: int, between: int, warmup: int) -> None:
    """It is at least two validations long."""
    wait = patience_of_validations(steps=steps, steps_between=between, warmup_steps=warmup)
    if wait is not None:
        stop = earliest_stop(warmup_steps=warmup, wait_steps=wait, least_steps=0, steps_between=between)
        assert stop <= 0.9 * steps
        assert wait >= 2 * between


@pytest.mark.parametrize("text", ["trainer: {max_epochs: 1}\n", "train: {epochs: 1}\n"])
@pytest.mark.parametrize(
    "section", [f"training_automations: {{{STOP}: {{monitor_metric: val/loss}}}}\n", "training_automations:\n"]
)
def test_a_run_that_is_too_short_by_itself_is_no_fault_of_the_file(text: str, section: str, tmp_path: Path) -> None:
    """Nobody wrote the setting that would be blamed."""
    found = findings(diagnosed(text + section, tmp_path), STOP)
    assert all(one.note and one.change is None for one in found)
    assert not any("min_epochs" in one.path for one in found)


def test_no_criteria_are_no_count_to_lower(tmp_path: Path) -> None:
    """The mend names what is meant."""
    (found,) = findings(diagnosed(_file("{criteria: [], min_epochs: 0}"), tmp_path), STOP)
    assert (found.found, found.mend) == (
        "criteria is empty",
        "Name one or more, or leave it out: then all are used.",
    )
    assert found.change is not None
    assert not found.note


@pytest.mark.parametrize(
    ("metric", "mode", "told"),
    [
        ("val/psnr", "min", "mode is min, and val/psnr is by its name better when it is higher"),
        ("val/loss", "max", "mode is max, and val/loss is by its name better when it is lower"),
        ("val/psnr", "max", None),
        ("val/psnr", "auto", None),
        ("val/quality", "min", None),
    ],
)
def test_an_upside_down_mode_is_worth_a_note(metric: str, mode: str, told: str | None, tmp_path: Path) -> None:
    """A name that says nothing contradicts nothing."""
    text = _file(f"{{monitor_metric: {metric}, mode: {mode}, min_epochs: 0}}")
    found = [one.found for one in findings(diagnosed(text, tmp_path), STOP) if one.path.endswith("mode")]
    assert found == ([] if told is None else [told])


def test_bounds_that_hold_the_rate_are_worth_a_note(tmp_path: Path) -> None:
    """Of the automation only the return after a divergence is left."""
    section = f"training_automations: {{{LR}: {{min_lr_factor: 1.0, max_lr_factor: 1.0}}}}\n"
    text = "train: {total_iter: 40000}\n" + section
    (found,) = findings(diagnosed(text, tmp_path), LR)
    assert found.note
    assert found.found == "min_lr_factor and max_lr_factor are both 1"
