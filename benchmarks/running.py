"""Makes one run of the scoreboard: a cell in, an outcome out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch.utils.data import DataLoader

import lightning_automations
from benchmarks.job import Job, Observer
from benchmarks.methods import method_named
from benchmarks.methods.method import Method, RunSetup, users_optimizer
from benchmarks.outcome import Cell, Outcome
from benchmarks.scenarios import Scenario, scenario_named
from benchmarks.tasks import Task, task_named
from benchmarks.tasks.judging import judged
from benchmarks.tuning import tuned
from lightning_automations.callbacks.base import AutomationCallback

__all__ = ["VALIDATIONS", "run", "run_setup"]

VALIDATIONS = 20
"""Of each run, evenly spread."""
SAMPLES_AT_ONCE = 128
"""Of validation and test data; a larger batch is slower, for it does not fit into the processor's cache."""


def run(cell: Cell) -> Outcome:
    """Train and judge. A run that raises is an outcome too, and counts as a failure.

    Args:
        cell: Names of task, optimizer, scenario and method, and the seed.

    Raises:
        ValueError: If a name is not in its table.
    """
    scenario, method = scenario_named(cell.scenario), method_named(cell.method)
    setup = run_setup(cell, scenario)
    start_loss = _start_loss(cell.task, cell.seed)
    seed_everything(cell.seed, verbose=False)
    factors = scenario.loss_factors(steps=setup.steps, seed=cell.seed)
    job = Job(setup, method, factors)
    observer = Observer(sample_budget=setup.steps * setup.task.batch_size)
    outcome = Outcome(cell=cell, score=None, test_loss=None, start_loss=start_loss)
    callbacks: list[Callback] = []
    started = time.perf_counter()
    errors: list[logging.LogRecord] = []
    try:
        callbacks = method.callbacks(setup)
        with _errors_kept(errors):
            _fit(job, method, [*callbacks, observer], seed=cell.seed)
        test = setup.task.splits().test
        score, test_loss = judged(setup.task, job.network, test, samples_at_once=SAMPLES_AT_ONCE)
        outcome = replace(outcome, score=score, test_loss=test_loss, steps=job.trainer.global_step)
    except ImportError:
        raise  # a package that is not installed is no failure of its method
    except Exception as error:  # noqa: BLE001 - whatever a peer raises, its run has failed and the others go on
        outcome = replace(outcome, error=f"{type(error).__name__}: {error}"[:300])
    return replace(
        outcome,
        samples=job.samples,
        seconds=round(time.perf_counter() - started, 3),
        changes=_changes(callbacks),
        own_errors=len(errors),
        # An optimizer that replaces the user's may use the gradients' memory for its own ends.
        clipped_steps=observer.clipped_steps if method.optimizer is users_optimizer else 0,
        skipped_steps=observer.skipped_steps,
    )


def run_setup(cell: Cell, scenario: Scenario) -> RunSetup:
    """What the method is told: the tuned rates, put off by the scenario."""
    task, rates = task_named(cell.task), tuned(cell.task, cell.optimizer)
    off = scenario.rate_factor
    if cell.optimizer == "sgd":
        # Its user has tuned the rate in the unit of the loss.
        off /= scenario.loss_unit
    return RunSetup(
        task=task,
        optimizer=cell.optimizer,
        rate=rates.rate * off,
        cosine_rate=rates.cosine_rate * off,
        steps=task.steps,
        validation_interval=max(1, task.steps // VALIDATIONS),
    )


def _fit(job: Job, method: Method, callbacks: list[Callback], *, seed: int) -> None:
    setup = job.setup_of_run
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=setup.steps,
        max_epochs=-1,
        val_check_interval=setup.validation_interval,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=os.devnull,
        **method.trainer,
    )
    trainer.fit(job, setup.task.training_loader(seed=seed), _validation_loader(setup.task))


def _validation_loader(task: Task) -> DataLoader[tuple[torch.Tensor, ...]]:
    return DataLoader(task.splits().validation, batch_size=SAMPLES_AT_ONCE)


@cache
def _start_loss(task: str, seed: int) -> float:
    """On the test data before the first step: the same for every method, since all start from the same weights."""
    chosen = task_named(task)
    torch.manual_seed(seed)
    _, loss = judged(chosen, chosen.network(), chosen.splits().test, samples_at_once=SAMPLES_AT_ONCE)
    return loss


def _changes(callbacks: list[Callback]) -> dict[str, int]:
    """How many adjustments each of our automations made."""
    ours = [callback for callback in callbacks if isinstance(callback, AutomationCallback)]
    return {callback.settings.automation: len(callback.adjustments) for callback in ours}


@contextmanager
def _errors_kept(records: list[logging.LogRecord]) -> Iterator[None]:
    """Keep what our package logs as an error: an automation that fails retires, and should not do so unseen."""
    handler = logging.Handler(level=logging.ERROR)
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger(lightning_automations.__name__)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
