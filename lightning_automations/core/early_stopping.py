"""When a training is over: settings and decision of the early stopper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from typing_extensions import TypedDict

from lightning_automations.core.errors import Problem
from lightning_automations.core.settings import AutomationSettings

__all__ = ["EarlyStoppingFallback", "EarlyStoppingSettings"]


class EarlyStoppingFallback(TypedDict, total=False):
    """What holds once the stopper has retired.

    Args:
        early_stopping: True: the plain rule (patience alone) goes on; False: the run is no longer stopped early.
    """

    early_stopping: bool


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingSettings(AutomationSettings):
    """Settings of ``IntelligentEarlyStopping``. All counts but ``min_epochs`` are in optimizer steps.

    Counts that are not written are shortened to a share of the run where the run is too short for them: ``patience`` and
    ``max_no_improvement`` to 20 % of its steps, ``min_iterations`` to 30 %, ``warmup_iterations`` to 5 %, and
    ``min_epochs`` to 30 % of its epochs. What is written holds.

    Args:
        monitor_metric: Name of the metric to watch, as it is logged. Written and not logged by the end of the first
            validation: an error that lists what was logged. Not written and not logged: the metric of the first
            ``ModelCheckpoint`` or plateau scheduler that has one, else the only logged name with ``val`` and ``loss``.
        mode: ``min`` or ``max``: which way is better; ``auto``: from the metric object or its name.
        patience: Steps without an improvement that counts after which the run is stopped, 1 or more.
        min_improvement: Improvement over the last accepted best that counts, in the metric's unit, 0 or more; None: not
            used.
        improvement_threshold: The same relative to the best's absolute value, 0 or more; None: not used. An improvement
            counts if it is larger than either of the two.
        max_no_improvement: Steps without any new best, however small, after which the run is stopped, 1 or more.
        min_epochs: Training epochs before which the run is never stopped, 0 or more.
        min_iterations: Steps before which the run is never stopped, 0 or more.
        warmup_iterations: Steps before which metrics are not judged and never become the best, 0 or more.
        criteria: What may stop the run: ``all``, or any of ``plateau``, ``overfitting``, ``non_finite``, ``threshold``.
        restore_best: Put the best weights back when training ends.
        stopping_threshold: Stop as soon as the metric is better than this; None: not used.
        divergence_threshold: Stop as soon as the metric is worse than this; None: not used.
        check_finite: Stop when the metric is NaN or infinite at two judgements in a row (criterion ``non_finite``).
        strict: Whether a metric that was written and is not logged is an error; False: it is waited for.
        verbose: Log every improvement.
        max_adjustments: Stops in one fit; 0: the run is never stopped.
        fallback: ``early_stopping``: whether the plain rule goes on once the automation has retired.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, or contradicts another.

    Example:
        >>> EarlyStoppingSettings(monitor_metric="val/loss", patience=500).mode
        'auto'
    """

    automation: ClassVar[str] = "IntelligentEarlyStopping"
    shares_of_steps: ClassVar[Mapping[str, float]] = {
        "patience": 0.2,
        "max_no_improvement": 0.2,
        "min_iterations": 0.3,
        "warmup_iterations": 0.05,
    }
    shares_of_epochs: ClassVar[Mapping[str, float]] = {"min_epochs": 0.3}

    monitor_metric: str = "val/psnr"
    mode: Literal["auto", "min", "max"] = "auto"
    patience: Annotated[int, Ge(1)] = 2000
    min_improvement: Annotated[float, Ge(0)] | None = 0.001
    improvement_threshold: Annotated[float, Ge(0)] | None = 0.002
    max_no_improvement: Annotated[int, Ge(1)] = 2000
    min_epochs: Annotated[int, Ge(0)] = 1000
    min_iterations: Annotated[int, Ge(0)] = 5000
    warmup_iterations: Annotated[int, Ge(0)] = 1000
    criteria: Literal["all"] | tuple[Literal["plateau", "overfitting", "non_finite", "threshold"], ...] = "all"
    restore_best: bool = False
    stopping_threshold: float | None = None
    divergence_threshold: float | None = None
    check_finite: bool = True
    strict: bool = True
    verbose: bool = False
    max_adjustments: Annotated[int, Ge(0)] | None = 1
    fallback: EarlyStoppingFallback = field(default_factory=lambda: EarlyStoppingFallback(early_stopping=False))

    def contradictions(self) -> Iterable[Problem]:
        if self.min_improvement is None and self.improvement_threshold is None:
            yield Problem(
                path="min_improvement",
                expected="a number, for improvement_threshold is null too",
                got="null",
                hint="Nothing would ever count as an improvement; 0 lets every new best count.",
            )
        for name in ("stopping_threshold", "divergence_threshold"):
            if not self.uses("threshold") and getattr(self, name) is not None:
                yield Problem(
                    path="criteria",
                    expected=f"'threshold' among them, for {name} is set",
                    got=repr(list(self.criteria)),
                    hint=f"Add 'threshold' to criteria or leave {name} out.",
                )

    def uses(self, criterion: str) -> bool:
        """Whether a criterion is on."""
        return self.criteria == "all" or criterion in self.criteria
