"""What ``LearningRateBrain`` has seen of a run besides its progress; all of it goes into checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LearningRateState"]


@dataclass(kw_only=True)
class LearningRateState:
    """All that the next decision depends on.

    Args:
        phase: ``trial`` in the first steps of a fresh fit, ``annealing`` in the last ones, else ``running``.
        factor: The factor on the scheduled rate, before annealing.
        limit: The highest factor that is allowed since a higher one has diverged; None: none has.
        changed_at_step: When the factor was last changed.
        rates: The scheduled rates at the last window.
        highest_rates: The highest of them so far.
        losses: The finite losses of the last steps since the factor was last changed.
        alignments: The same for the alignment of gradient and way gone.
        non_finite_share: Share of the losses of the last window that were NaN or infinite.
        start_loss: The usual loss of an untrained network, or of one whose loss has got a new meaning; None: not known.
        start_noise: Standard deviation of a loss there.
        tried_factor: The factor of the attempt before this one; None: this is the first.
        tried_level: Where its loss ended.
        tried_noise: Standard deviation of a loss there.
        start_losses: The first loss of each attempt, which no step has touched.
        sees_start: Whether that of the attempt that runs is among them.
        cut_at_step: When the factor was last cut for a divergence.
        rollbacks: How often it did.
        doubted_factor: The factor before the run went back; None: the loss has been seen since.
        doubted_limit: The limit of then.
        doubted_level: A loss above this after it went back shows that the weights were not at fault.
        anneals: Whether the factor is to fall at the end; settled when the time for it has come.
        annealed: How far it has fallen, 0 to 1.
        held_back: Whether it wanted to go below the lowest factor at some time.
        wanted_higher: Whether it wanted to go above the highest.
    """

    phase: Literal["trial", "running", "annealing"] = "running"
    factor: float = 1.0
    limit: float | None = None
    changed_at_step: int = 0
    rates: tuple[float, ...] = ()
    highest_rates: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    alignments: tuple[float, ...] = ()
    non_finite_share: float = 0.0
    start_loss: float | None = None
    start_noise: float = 0.0
    tried_factor: float | None = None
    tried_level: float = 0.0
    tried_noise: float = 0.0
    start_losses: tuple[float, ...] = ()
    sees_start: bool = False
    cut_at_step: int | None = None
    rollbacks: int = 0
    doubted_factor: float | None = None
    doubted_limit: float | None = None
    doubted_level: float = 0.0
    anneals: bool = True
    annealed: float = 0.0
    held_back: bool = False
    wanted_higher: bool = False
