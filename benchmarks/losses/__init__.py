"""Losses of several terms whose weights are mis-set: what is it worth to balance them?"""

from benchmarks.losses.jobs import FACTORS, LossJob, jobs
from benchmarks.losses.judging import LossOutcome, harm_percent, references, succeeds
from benchmarks.losses.study import measure, section
from benchmarks.losses.tasks import TASKS, LossTask
from benchmarks.losses.training import run

__all__ = [
    "FACTORS",
    "TASKS",
    "LossJob",
    "LossOutcome",
    "LossTask",
    "harm_percent",
    "jobs",
    "measure",
    "references",
    "run",
    "section",
    "succeeds",
]
