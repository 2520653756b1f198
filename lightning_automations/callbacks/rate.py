"""The only writer of the learning rate: scheduled rate x product of named factors."""

from __future__ import annotations

from lightning.pytorch import Trainer

__all__ = ["RateWriter"]


class RateWriter:
    """Writes ``group["lr"]`` of every optimizer as scheduled rate x product of named factors.

    Args:
        trainer: The trainer, whose optimizers and schedulers exist.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._factors: dict[str, float] = {}

    def set_factor(self, name: str, factor: float) -> None:
        """Set one automation's factor and write the rates."""
        self._factors[name] = factor

    def detach(self) -> None:
        """Give the schedulers back."""
