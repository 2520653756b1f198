"""Settings of the early stopper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from typing_extensions import Self, TypedDict

from lightning_automations.core.errors import Problem
from lightning_automations.core.settings import AutomationSettings, RunLength

__all__ = ["EarlyStoppingFallback", "EarlyStoppingSettings"]

_GROWTH = 0.3
"""AutoGluon's."""


class EarlyStoppingFallback(TypedDict, total=False):
    """What holds once the stopper has retired.

    Args:
        early_stopping: True: the plain rule (patience alone) goes on; False: the run is no longer stopped early.
    """

    early_stopping: bool


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingSettings(AutomationSettings):
    """Settings of ``IntelligentEarlyStopping``. All counts but ``min_epochs`` are in optimizer steps.

    Counts that are not written are shortened where the run is too short for them: ``patience`` and
    ``max_no_improvement`` to 30 % of its steps, ``min_iterations`` to 12.5 %, ``warmup_iterations`` to 5 %, and
    ``min_epochs`` to 10 % of its epochs. What is written holds; a ``max_no_improvement`` that is not written is never
    below ``patience``.

    Args:
        monitor_metric: Name of the metric to watch, as it is logged. Written and not logged by the end of the first
            validation: an error that lists what was logged. Not written and not logged: the metric of the first
            ``ModelCheckpoint`` or plateau scheduler that has one, else the only logged name with ``val`` and ``loss``.
        mode: ``min`` or ``max``: which way is better; ``auto``: from the metric object or its name.
        patience: Steps without an improvement that counts after which the run is stopped, 1 or more.
        min_improvement: An improvement over the last accepted best counts if it is above this, in the metric's unit,
            0 or more; None: not used.
        improvement_threshold: It counts as well if it is above this share of the best's absolute value, 0 or more;
            None: not used. One of the two suffices.
        patience_growth: By which share of the best's step ``patience`` and ``max_no_improvement`` grow, 0 or more;
            None: 0.3 where ``patience`` is not written, else 0.
        max_no_improvement: Steps without any new best, however small, after which the run is stopped, 1 or more.
        min_epochs: Training epochs before which the run is never stopped, 0 or more.
        min_iterations: Steps before which the run is never stopped, 0 or more.
        warmup_iterations: Steps before which metrics are not judged and never become the best, 0 or more.
        criteria: What may stop the run: ``all``, or any of ``plateau``, ``overfitting``, ``convergence``,
            ``non_finite``, ``threshold``.
        convergence_threshold: Stop when what the rest of the run can gain at most is below this share of what the run
            has gained so far (and below 5 % of the best's absolute value), 0 or more; 0: never for that reason.
        restore_best: Put the best weights back when training ends.
        stopping_threshold: Stop as soon as the metric is better than this; None: not used.
        divergence_threshold: Stop as soon as the metric is worse than this; None: not used.
        check_finite: Stop when the metric is NaN or infinite at two judgements in a row (criterion ``non_finite``).
        strict: Whether a metric that was written and is not logged is an error; False: it is waited for.
        verbose: Log every improvement.
        max_adjustments: Stops in one fit, 0 or more; None: no limit. 0: it retires as training starts, and nothing is
            judged unless the fallback goes on.
        fallback: ``early_stopping``: whether the plain rule goes on once the automation has retired.

    Raises:
        ConfigError: If a value has the wrong type, is out of its range, or contradicts another.

    Example:
        >>> EarlyStoppingSettings(monitor_metric="val/loss", patience=500).mode
        'auto'
    """

    automation: ClassVar[str] = "IntelligentEarlyStopping"
    shares_of_steps: ClassVar[Mapping[str, float]] = {
        "patience": 0.3,
        "max_no_improvement": 0.3,
        "min_iterations": 0.125,
        "warmup_iterations": 0.05,
    }
    shares_of_epochs: ClassVar[Mapping[str, float]] = {"min_epochs": 0.1}

    monitor_metric: str = "val/psnr"
    mode: Literal["auto", "min", "max"] = "auto"
    patience: Annotated[int, Ge(1)] = 2000
    min_improvement: Annotated[float, Ge(0)] | None = 0.001
    improvement_threshold: Annotated[float, Ge(0)] | None = 0.002
    patience_growth: Annotated[float, Ge(0)] | None = None
    max_no_improvement: Annotated[int, Ge(1)] = 2000
    min_epochs: Annotated[int, Ge(0)] = 1000
    min_iterations: Annotated[int, Ge(0)] = 5000
    warmup_iterations: Annotated[int, Ge(0)] = 1000
    criteria: (
        Literal["all"] | tuple[Literal["plateau", "overfitting", "convergence", "non_finite", "threshold"], ...]
    ) = "all"
    convergence_threshold: Annotated[float, Ge(0)] = 0.02
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

    def fitted(self, run: RunLength, written: Iterable[str]) -> Self:
        """As for all settings; and a default never cuts a patience short that was written."""
        settings = super().fitted(run, written)
        limit = settings.max_no_improvement
        if "max_no_improvement" not in written:
            limit = max(limit, settings.patience)
        growth = settings.patience_growth
        if growth is None:
            growth = 0.0 if "patience" in written else _GROWTH
        return replace(settings, max_no_improvement=limit, patience_growth=growth)

    def by_patience_alone(self) -> Self:
        """The settings of the plain rule: gates and patience as they are, no other criterion."""
        return replace(self, criteria=("plateau",), stopping_threshold=None, divergence_threshold=None)

    def obstacles(self, run: RunLength) -> list[str]:
        """Why the run cannot be stopped early, as far as that is known at its start; empty where it can."""
        found = []
        if not self.criteria:
            found.append("criteria is empty")
        if run.epochs is not None and self.min_epochs >= run.epochs:
            found.append(f"min_epochs is {self.min_epochs} and the run has {run.epochs} epochs")
        if run.steps is None:
            return found
        for name, count in (("min_iterations", self.min_iterations), ("warmup_iterations", self.warmup_iterations)):
            if count >= run.steps:
                found.append(f"{name} is {count} and the run has {run.steps} steps")
        if self.criteria == ("plateau",) and self.warmup_iterations + self.shortest_wait >= run.steps:
            found.append(
                f"a plateau takes {self.shortest_wait} steps after the warm-up of {self.warmup_iterations}"
                f" and the run has {run.steps} steps"
            )
        return found

    @property
    def shortest_wait(self) -> int:
        """Steps after which a plateau is confirmed at the earliest."""
        return min(self.patience, self.max_no_improvement)
