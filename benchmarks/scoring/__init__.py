"""Figures from outcomes: success, rescue and harm, sensitivity, the headline, false alarms, and where we lose."""

from benchmarks.scoring.control import Difference, same_as_plain
from benchmarks.scoring.groups import (
    CONTROL,
    GROUPS,
    NOISE,
    Group,
    is_ours,
    of_study,
    optimizers_of,
    ours_with_defaults,
    select,
)
from benchmarks.scoring.headline import HARM_BAR, OVERHEAD_BAR_PERCENT, SUCCESS_BAR, Headline, MemoryRun, headline
from benchmarks.scoring.interventions import Interventions, failures, interventions, relative_seconds
from benchmarks.scoring.judging import Failure, Reference, References, Run, judge
from benchmarks.scoring.losses import Ahead, Loss, Measure, losses
from benchmarks.scoring.pairs import PLAIN, Comparison, Share, compare, matrix, only_shared, share
from benchmarks.scoring.sensitivity import Sensitivity, counted_loss, sensitivities

__all__ = [
    "CONTROL",
    "GROUPS",
    "HARM_BAR",
    "NOISE",
    "OVERHEAD_BAR_PERCENT",
    "PLAIN",
    "SUCCESS_BAR",
    "Ahead",
    "Comparison",
    "Difference",
    "Failure",
    "Group",
    "Headline",
    "Interventions",
    "Loss",
    "Measure",
    "MemoryRun",
    "Reference",
    "References",
    "Run",
    "Sensitivity",
    "Share",
    "compare",
    "counted_loss",
    "failures",
    "headline",
    "interventions",
    "is_ours",
    "judge",
    "losses",
    "matrix",
    "of_study",
    "only_shared",
    "optimizers_of",
    "ours_with_defaults",
    "relative_seconds",
    "same_as_plain",
    "select",
    "sensitivities",
    "share",
]
