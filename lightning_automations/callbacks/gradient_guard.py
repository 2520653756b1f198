"""What is done to the gradients of one optimizer step: clipped, skipped, or left alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_automations.core.gradient_clipping import Limit
from lightning_automations.probes.gradient_norm import (
    clip_on_device,
    drop_gradients,
    gradient_norms,
    is_sharded,
    norm_of_huge,
    scale_gradients,
    total_norm,
    zero_gradients,
)
from lightning_automations.probes.skip_flag import give_flag, skips_by_flag, takes_flag

__all__ = ["GradientGuard", "Seen"]


@dataclass(frozen=True)
class Seen:
    """What a step's gradients were before anything was done to them.

    Args:
        norm: Of all of them; a number where it was read.
        norms: Of each one, shape (parameters,).
        notable: Whether it may be a far outlier, or not finite.
        dropped: Whether the gradients were taken away, so that the step is skipped.
    """

    norm: Tensor | float
    norms: Tensor
    notable: bool
    dropped: bool = False


class GradientGuard:
    """Keeps far and non-finite gradients from the weights.

    Args:
        skip: ``exact``, ``zero``, or anything else for neither.
        scaled: Whether a ``GradScaler`` is at work. It has looked for itself, and skips.
        dry_run: Whether nothing is done.
    """

    def __init__(self, *, skip: str | bool, scaled: bool, dry_run: bool) -> None:
        self.scaled = scaled
        self._exact = skip == "exact" and not scaled and not dry_run
        self._zero = skip == "zero" and not scaled
        self._dry_run = dry_run

    def counts_at_once(self, optimizer: Optimizer) -> bool:
        """Whether the norm of each step is read, so that a step that was skipped is known when it happens."""
        return self._exact and not skips_by_flag(optimizer)

    def protect(self, optimizer: Optimizer, parameters: Sequence[Tensor], limit: Limit) -> Seen:
        """Clip the gradients that are there before a step, and see to it that a non-finite step is skipped.

        Args:
            optimizer: Whose step it is.
            parameters: Those of its parameters that have gradients, one or more.
            limit: What is left of a norm.
        """
        norms = gradient_norms(parameters)
        norm = total_norm(norms)
        if self._exact and not takes_flag(optimizer, parameters):
            number = norm.item()
            if not math.isfinite(number) and not is_sharded(parameters[0]):
                number = norm_of_huge(parameters)
            self._by_number(parameters, number, limit)
            dropped = not math.isfinite(number)
            return Seen(number, norms, notable=dropped or limit.is_far(number), dropped=dropped)
        if not self._dry_run:
            self._on_device(optimizer, parameters, norm, limit)
        return Seen(norm, norms, notable=True)

    def left_of(self, norm: float, limit: Limit) -> float:
        """What was left of a norm, finite or not, under a limit."""
        if self._dry_run:
            return norm
        if math.isfinite(norm):
            return limit.left_of(norm)
        return 0.0 if self._exact or self._zero else norm

    @staticmethod
    def _by_number(parameters: Sequence[Tensor], norm: float, limit: Limit) -> None:
        """With the norm read: most steps need nothing more."""
        if not math.isfinite(norm):
            drop_gradients(parameters)
        elif norm > limit.threshold:
            scale_gradients(parameters, limit.left_of(norm) / norm)

    def _on_device(self, optimizer: Optimizer, parameters: Sequence[Tensor], norm: Tensor, limit: Limit) -> None:
        """With nothing read."""
        if self._exact:
            give_flag(optimizer, ~torch.isfinite(norm))
        elif self._zero:
            bad = ~torch.isfinite(norm)
            zero_gradients(parameters, where=bad)
            norm = norm.masked_fill(bad, 0.0)
        clip_on_device(parameters, norm, threshold=limit.threshold, usual=limit.usual, far=limit.far)
