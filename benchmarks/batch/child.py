"""Makes runs under a limit of memory, each in a process of its own: ``python -m benchmarks.batch.child``.

Reads one request a line, writes one answer a line. Everything is imported once; each run is a fork of that state, so
that a run that dies takes nothing with it and the next one does not import again. Linux only.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.batch.jobs import MemoryJob
from benchmarks.batch.memory import PeakWatch, limited
from benchmarks.batch.methods import BatchMethod, BatchRun, fit, method_named
from benchmarks.batch.training import SAMPLES_AT_ONCE, Ledger, numbered
from benchmarks.tasks import Task, task_named
from benchmarks.tasks.judging import judged
from benchmarks.workers import quiet_worker
from lightning_automations.probes.out_of_memory import free_cached_memory

__all__ = ["main", "measured"]

LONGEST_SECONDS = 300
"""A run that takes longer is ended."""


def measured(request: Mapping[str, Any]) -> dict[str, Any]:
    """Train once, under the limit that the request names, and say what came of it.

    Args:
        request: ``job``: the fields of a ``MemoryJob``; ``method``, ``seed``; ``room_bytes``: what may be allocated
            beyond what the process has before training, None for no limit; ``weights``: a file. Without a limit the
            weights are written there, with one they are compared with those in it.
    """
    job, method = MemoryJob(**request["job"]), method_named(request["method"])
    room, weights = request["room_bytes"], Path(request["weights"])
    task = task_named(job.task)
    with tempfile.TemporaryDirectory() as folder:
        run = BatchRun(
            job=job,
            task=task,
            training=numbered(job, task),
            seed=request["seed"],
            folder=Path(folder),
            ledger=Ledger(budget=job.budget),
        )
        start_score = _warmed_up(run)
        free_cached_memory(torch.device("cpu"))
        watch, started = PeakWatch(), time.process_time()
        with limited(room):
            error = _error_of(method, run)
        result = {"error": error, "seconds": time.process_time() - started, "rise_bytes": watch.end()}
        if room is None:
            result["rise_bytes"] = max(result["rise_bytes"], watch.touched_rise())
    result |= _seen(run)
    if error is None:
        result |= _results(run)
        if room is None:
            torch.save(_weights(run), weights)
        result["difference"] = _difference(_weights(run), torch.load(weights))
    of_task = {"margin": task.margin, "score_name": task.score_name, "held_out": task.held_out}
    return {"start_score": start_score, **of_task, **result}


def _warmed_up(run: BatchRun) -> float:
    """Let all libraries load what they load at first use, before the limit counts; the score before the first step."""
    fit(replace(run, ledger=Ledger(budget=0)), batch_size=2, max_steps=1)
    torch.manual_seed(run.seed)
    return _score(run.task.network(), run.task)


def _error_of(method: BatchMethod, run: BatchRun) -> str | None:
    """Train; what was raised, in words, so that nothing keeps the tensors of a failed run."""
    try:
        method.train(run)
    except Exception as error:  # noqa: BLE001 - whatever ends a run, it has failed and the others go on
        where = "in the data loader: " if _is_from_loader(error) else ""
        return f"{where}{type(error).__name__}: {error}"[:300]
    return None


def _is_from_loader(error: BaseException) -> bool:
    """Whether a batch could not even be put together: no method that splits the step can help then."""
    return any("/torch/utils/data/" in frame.filename for frame in traceback.extract_tb(error.__traceback__))


def _seen(run: BatchRun) -> dict[str, Any]:
    ledger = run.ledger
    return {
        "once": ledger.each_once(run.job),
        "epochs": len(ledger.epochs),
        "samples": ledger.samples,
        "batch": ledger.batch,
        "micro_batch": ledger.micro_batch,
        "changes": run.changes,
    }


def _results(run: BatchRun) -> dict[str, Any]:
    module = run.module
    assert module is not None
    score = in_budget = _score(module.network, run.task)
    finite = all(bool(value.isfinite().all()) for value in _weights(run).values())
    steps = module.trainer.global_step
    if run.ledger.weights_in_budget is not None:
        network = run.task.network()
        network.load_state_dict(run.ledger.weights_in_budget)
        in_budget = _score(network, run.task)
    return {"score": score, "score_in_budget": in_budget, "finite": finite, "steps": steps}


def _score(network: torch.nn.Module, task: Task) -> float:
    score, _ = judged(task, network, task.splits().test, samples_at_once=SAMPLES_AT_ONCE)
    return score


def _weights(run: BatchRun) -> dict[str, torch.Tensor]:
    assert run.module is not None
    return {name: value.detach() for name, value in run.module.network.named_parameters()}


def _difference(weights: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> float:
    return max(float((value - others[name]).abs().max()) for name, value in weights.items())


def _forked(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a process of its own measures; how it died where it did not come to an answer."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _answer(request, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if text:
        answer: dict[str, Any] = json.loads(text)
        return answer
    return {"error": f"the process ended with {signal.Signals(-status).name if status < 0 else status}"}


def _answer(request: Mapping[str, Any], writing: int) -> None:
    """In the new process: measure, write, end without the clean-up that belongs to the other one."""
    signal.alarm(LONGEST_SECONDS)
    try:
        text = json.dumps(measured(request))
    except BaseException:  # noqa: BLE001 - an error of the study itself: told to whoever asked
        text = json.dumps({"broken": traceback.format_exc()})
    with os.fdopen(writing, "w") as pipe:
        pipe.write(text)
    os._exit(0)


def main() -> None:
    """Answer requests until there are no more."""
    # Answers go out here; whatever a library prints goes elsewhere.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    quiet_worker()
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        task_named(request["job"]["task"]).splits()  # made once, kept for the runs that follow
        answers.write(json.dumps(_forked(request)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
