"""Every method on every job, and the section of RESULTS.md about it: ``python -m benchmarks.losses``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from lightning.pytorch import Callback

from benchmarks.losses.jobs import LossJob, jobs
from benchmarks.losses.judging import FIXED, LossOutcome, harm_percent, references, succeeds
from benchmarks.losses.tasks import TASKS, LossTask
from benchmarks.losses.training import run
from benchmarks.report.text import table
from lightning_automations import DynamicLossScheduling

__all__ = ["METHODS", "SEEDS", "measure", "section"]

SEEDS = (0, 1, 2)
_FIRST_STEPS = {"baseline_iterations": 20, "adaptation_frequency": 10}
"""The runs are short; of longer ones the defaults take the same share."""


Method = Callable[[LossTask], Sequence[Callback]]


def _ours(**settings: Any) -> Method:
    return lambda _: [DynamicLossScheduling(journal=False, max_weight=1e6, **_FIRST_STEPS, **settings)]


_GRADNORM = "gradnorm"


def _gradnorm(**settings: Any) -> Method:
    return lambda task: _ours(method=_GRADNORM, shares="even", shared_parameters=f"network.{task.shared}", **settings)(
        task
    )


METHODS: Mapping[str, Method] = {
    FIXED: lambda _: (),
    "magnitudes, given shares": _ours(),
    "magnitudes, even shares": _ours(shares="even"),
    "dynamic weight average, even shares": _ours(method="dynamic_weight_average", shares="even"),
    "uncertainty, even shares": _ours(method="uncertainty", shares="even"),
    "relative balancing, even shares": _ours(method="relative_balancing", shares="even"),
    "gradnorm, even shares": _gradnorm(),
    "gradnorm with alpha 0, even shares": _gradnorm(asymmetry=0.0),
}
"""By the name in the table: the callbacks of one run of a task."""


def measure(
    *, seeds: Iterable[int], tasks: Sequence[LossTask] = TASKS, methods: Iterable[str] = tuple(METHODS)
) -> Iterator[LossOutcome]:
    """Every method on every job; a run that ends with an error counts as one without scores."""
    for task in tasks:
        for job in jobs(task, seeds=seeds):
            for method in methods:
                yield _run(job, method, METHODS[method](task))


def _run(job: LossJob, method: str, callbacks: Sequence[Callback]) -> LossOutcome:
    try:
        return run(job, method=method, callbacks=callbacks)
    except (ArithmeticError, RuntimeError, ValueError):
        return LossOutcome(
            task=job.task.name, method=method, term=job.term, factor=job.factor, seed=job.seed, steps=0,
            scores=dict.fromkeys(job.weights), weights=job.weights,
        )  # fmt: skip


def section(rows: Iterable[Mapping[str, Any]], *, tasks: Sequence[LossTask] = TASKS) -> str:
    """The section of RESULTS.md.

    Args:
        rows: As ``LossOutcome.to_json`` gives them.
        tasks: The tasks that they are of.
    """
    outcomes = [LossOutcome(**row) for row in rows]
    parts = [
        "Losses with several terms, with the weight of one of them multiplied by 0.01 or 100. A run succeeds where no "
        "term's test score is below that of well-set fixed weights by more than its margin. *Harm* is how far the "
        "worst term of well-set runs lies below the mean of the fixed ones, in percent of it; that of the fixed runs "
        "is their own scatter. With *given shares* a method takes the weights for what the user wants, with *even "
        "shares* it does not ask for them. The well-set weights of `tumours` are even themselves. *Gradnorm* takes the "
        "gradients by the last layer that all terms share."
    ]
    for task in tasks:
        found = [one for one in outcomes if one.task == task.name]
        if found:
            parts += [f"### {task.name}: {len(task.weights)} terms ({', '.join(task.weights)})", _table(task, found)]
            parts.append(_worth_of_gradients(task, found))
    return "\n\n".join(parts) + "\n"


def _table(task: LossTask, outcomes: Sequence[LossOutcome]) -> str:
    reference = references(outcomes, task)
    rows = []
    for method in METHODS:
        mine = [one for one in outcomes if one.method == method]
        well, wrong = [one for one in mine if one.term is None], [one for one in mine if one.term is not None]
        harm = [harm_percent(one, reference) for one in well]
        rows.append(
            (
                method,
                _count(wrong, task, reference),
                _count([one for one in wrong if one.factor < 1], task, reference),
                _count([one for one in wrong if one.factor > 1], task, reference),
                _count(well, task, reference),
                f"{fmean(harm):.1f} ({max(harm):.1f})",
            )
        )
    head = ("method", "mis-set: succeed", "x 0.01", "x 100", "well set: succeed", "harm, %: mean (worst)")
    return table(head, rows)


def _worth_of_gradients(task: LossTask, outcomes: Sequence[LossOutcome]) -> str:
    """What the gradients, which cost a backward pass for each term, rescue beyond the terms alone."""
    reference = references(outcomes, task)
    rescued = dict.fromkeys(METHODS, 0)
    for one in outcomes:
        rescued[one.method] += one.term is not None and succeeds(one, task, reference)
    with_gradients = max(count for method, count in rescued.items() if _GRADNORM in method)
    without = max(count for method, count in rescued.items() if _GRADNORM not in method)
    verdict = "earn their cost" if with_gradients > without else "do not earn their cost"
    return (
        f"The gradients {verdict} here: with them at most {with_gradients} of the mis-set runs succeed, with the "
        f"terms alone {without}."
    )


def _count(outcomes: Sequence[LossOutcome], task: LossTask, reference: Mapping[str, float]) -> str:
    return f"{sum(succeeds(one, task, reference) for one in outcomes)}/{len(outcomes)}"
