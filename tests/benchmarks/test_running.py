import math
from dataclasses import replace

import pytest
from lightning.pytorch import Callback

from benchmarks import running
from benchmarks.job import Observer
from benchmarks.methods import method_named
from benchmarks.outcome import Cell
from benchmarks.references import references
from benchmarks.running import run
from benchmarks.scoring import Failure, judge, same_as_plain

CELL = Cell(task="wine", optimizer="sgd", scenario="clean", method="plain", seed=0)


class Raises(Callback):
    """Breaks a run in its fifth step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == 5:
            raise RuntimeError("planted")


def test_a_tuned_clean_run_succeeds() -> None:
    """The reference is within reach of the runs that it judges, and the run has its steps and samples."""
    outcome = run(CELL)
    assert judge([outcome], references())[0].success
    assert outcome.samples == references()["wine", "sgd"].sample_budget
    assert outcome.clipped_steps == outcome.skipped_steps == 0
    assert outcome.test_loss is not None
    assert outcome.start_loss is not None
    assert outcome.test_loss < outcome.start_loss


@pytest.mark.parametrize("scenario", ["clean", "NaN and spikes", "rate x10"])
def test_automations_that_do_nothing_score_exactly_like_plain_lightning(scenario: str) -> None:
    """The negative control: the same numbers, bit for bit."""
    plain = run(replace(CELL, scenario=scenario))
    control = run(replace(CELL, scenario=scenario, method="ours, doing nothing"))
    assert same_as_plain([plain, control], "ours, doing nothing") == []
    assert (control.steps, control.samples) == (plain.steps, plain.samples)
    # The comparison can tell two runs apart.
    assert same_as_plain([plain, replace(control, score=-1.0)], "ours, doing nothing")


def test_a_run_that_raises_is_a_failure_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome with the error, not an exception."""
    breaking = replace(method_named("plain"), callbacks=lambda setup: [Raises()])
    monkeypatch.setattr(running, "method_named", lambda name: breaking)
    outcome = run(CELL)
    assert outcome.error == "RuntimeError: planted"
    assert judge([outcome], references())[0].failure is Failure.RAISED


def test_a_run_that_ends_non_finite_is_a_failure() -> None:
    """Plain Lightning does not survive one NaN."""
    outcome = run(replace(CELL, scenario="one NaN"))
    assert outcome.error is None
    assert not math.isfinite(outcome.test_loss)
    assert judge([outcome], references())[0].failure is Failure.NOT_FINITE


def test_a_run_whose_weights_are_lost_is_ended_a_quarter_of_the_run_later() -> None:
    """Not at once: a method may put them back. One that skips the step is not lost."""
    struck, plain = 80, run(replace(CELL, scenario="one NaN"))
    assert struck + 40 < plain.steps < 200
    assert run(replace(CELL, scenario="one NaN", method="clip 1.0, skip")).steps == 200


def test_clipped_and_skipped_steps_are_counted_whoever_clips() -> None:
    """From the gradients themselves, so that peers and ours are counted alike."""
    lightning = run(replace(CELL, scenario="NaN and spikes", method="clip 1.0"))
    skipping = run(replace(CELL, scenario="NaN and spikes", method="clip 1.0, skip"))
    assert lightning.skipped_steps == 0
    assert skipping.skipped_steps == 3
    assert skipping.clipped_steps > 0


def test_a_run_ends_when_its_samples_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees more samples a step has fewer steps."""
    halved = references()["wine", "sgd"].sample_budget // 2
    monkeypatch.setattr(running, "Observer", lambda sample_budget: Observer(sample_budget=halved))
    assert run(CELL).samples <= halved
