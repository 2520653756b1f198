"""Runs a list of jobs in worker processes, one thread each, as many as there are cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

__all__ = ["each", "quiet_worker"]

Job = TypeVar("Job")
Result = TypeVar("Result")


def each(function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int) -> Iterator[Result]:
    """The result of every job, as it comes in.

    Args:
        function: Defined at the top of a module, so that a new process finds it.
        jobs: What it is called with, picklable.
        workers: Processes, 1 or more. Each imports everything once and keeps its data.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=quiet_worker) as pool:
        waiting: Sequence[Any] = [pool.submit(function, job) for job in jobs]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def quiet_worker() -> None:
    """One thread, and no word of what a run warns about: thousands of runs would say it thousands of times."""
    os.environ["KERAS_BACKEND"] = "torch"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")

    import torch

    torch.set_num_threads(1)
