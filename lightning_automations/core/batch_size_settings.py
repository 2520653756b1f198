"""The settings of ``DynamicBatchSizeOptimizer``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from typing_extensions import TypedDict

from lightning_automations.core.errors import Problem
from lightning_automations.core.settings import AutomationSettings

__all__ = ["BatchSizeFallback", "BatchSizeSettings"]


class BatchSizeFallback(TypedDict, total=False):
    """What holds once the automation has retired.

    Args:
        batch_size: Samples per micro-batch where memory demanded a split, 1 or more.
    """

    batch_size: Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class BatchSizeSettings(AutomationSettings):
    """Settings of ``DynamicBatchSizeOptimizer``.

    Args:
        target_vram_usage: Share of the device's memory to fill, above 0 and at most 1. Other processes' use counts.
        safety_margin: Width of the band under the target that is left alone, as a share of the device's memory, 0 or
            more and below ``target_vram_usage``.
        adjustment_frequency: Optimizer steps between decisions, 1 or more. An out-of-memory error is handled at once.
        min_batch_size: Fewest samples in one piece of a batch, 1 or more. Only the remainder of a batch that is cut as
            small as that may have fewer, where the run would end otherwise.
        max_batch_size: Samples up to which the loader's batch becomes larger. A loader that starts above it is left as
            it is.
        vram_history_size: Observations of memory use that are kept, 2 or more.
        effective_batch: ``keep``: the number of samples per optimizer step stays as it is. Where that is written, not
            only left to the default, and gradients are accumulated, larger batches of the loader take the place of
            accumulation as far as memory has room, from an epoch's start on: each step has the samples it had, the
            rate stays, and accumulation comes back when memory is taken away. ``grow``: the loader's batch may grow to
            fill memory, on any device, at most to its double at once: at an epoch's start, and within an epoch whose
            rest has ten decisions or more. That is no default, as it can harm a run: of 108 small runs grown from 4 or
            16 samples to 32 (SGD and AdamW, rates at and around the best), 39 % ended with a validation loss more than
            10 % above the ungrown run's, where another order of the samples alone made 25 %.
        lr_scaling: How the learning rate follows the number of samples per optimizer step: ``none``, ``sqrt``,
            ``linear``, or ``auto``: the square root for every optimizer. Linear for SGD, the usual rule, ruined 4 of 54
            of those runs, the square root none.
        max_adjustments: Changes before the automation retires; None: no limit. Recoveries from an out-of-memory error
            are not counted.
        fallback: ``batch_size``: once retired, and only where memory demanded a split, pieces stay at the smaller of
            this and the largest size seen to fit. The loader's batch stays as it is.

    Raises:
        ConfigError: Lists every setting that is wrong.

    Example:
        >>> BatchSizeSettings(target_vram_usage=0.9).safety_margin
        0.05
    """

    automation: ClassVar[str] = "DynamicBatchSizeOptimizer"
    ordered: ClassVar[tuple[tuple[str, str], ...]] = (("min_batch_size", "max_batch_size"),)

    target_vram_usage: Annotated[float, Gt(0), Le(1)] = 0.85
    safety_margin: Annotated[float, Ge(0)] = 0.05
    adjustment_frequency: Annotated[int, Ge(1)] = 100
    min_batch_size: Annotated[int, Ge(1)] = 1
    max_batch_size: Annotated[int, Ge(1)] = 32
    vram_history_size: Annotated[int, Ge(2)] = 50
    effective_batch: Literal["grow", "keep"] = "keep"
    lr_scaling: Literal["auto", "none", "sqrt", "linear"] = "auto"
    max_adjustments: Annotated[int, Ge(0)] | None = 20
    fallback: BatchSizeFallback = field(default_factory=lambda: BatchSizeFallback(batch_size=16))

    def contradictions(self) -> Iterable[Problem]:
        if self.safety_margin >= self.target_vram_usage:
            yield Problem(
                path="safety_margin",
                expected=f"below target_vram_usage ({self.target_vram_usage})",
                got=str(self.safety_margin),
                hint="Lower safety_margin or raise target_vram_usage.",
            )
