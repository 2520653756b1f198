"""Larger batches of the loader in the place of accumulation, with the same samples in every optimizer step."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Trainer

from lightning_automations.callbacks.loader_batch import LoaderBatch
from lightning_automations.lightning_internals import training_loaders

__all__ = ["ACCUMULATION_LEFT_ALONE", "Accumulation"]

ACCUMULATION_LEFT_ALONE = "the accumulation is left as it is"
"""The beginning of what is said where larger batches do not take the place of accumulation."""


class Accumulation:
    """The loader's batch and ``accumulate_grad_batches``, which change together: their product stays.

    Args:
        trainer: The trainer, between two epochs, with an accumulation of more than one batch.
        loader: Its training loader, as it was given.
        most: Samples up to which the loader's batch may become larger.
    """

    def __init__(self, trainer: Trainer, loader: LoaderBatch, *, most: int) -> None:
        self._trainer = trainer
        self._loader = loader
        self._most = most
        self._given = self._left = trainer.accumulate_grad_batches
        self._told = False

    @property
    def samples_per_step(self) -> int:
        """Samples in an optimizer step of this rank; the last one of an epoch may have fewer."""
        return self._loader.original * self._given

    def left_to_others(self, tell: Callable[[str], None]) -> bool:
        """Whether another callback has set ``accumulate_grad_batches`` since; it is then left to it, and said once."""
        others = self._trainer.accumulate_grad_batches != self._left
        if others and not self._told:
            tell(f"{ACCUMULATION_LEFT_ALONE}: another callback has changed accumulate_grad_batches")
        self._told = self._told or others
        return self._told

    def sizes(self) -> list[int]:
        """The sizes with which an epoch has the same steps and validations, smallest first; the given one is the first.

        That is where the batches of an epoch, and of a validation interval, can be put together without a rest. A rest
        would weigh more in its step than before: Lightning divides by the accumulation, however few batches are left.
        """
        given = self._loader.original
        factors = (factor for factor in range(2, self._given + 1) if self._given % factor == 0)
        return [given, *(given * factor for factor in factors if given * factor <= self._most and self._same(factor))]

    def bring_to(self, size: int) -> None:
        """Let the epoch that starts now, and all after it, have batches of this size and as many fewer of them."""
        self._loader.resize(size)
        self._trainer.accumulate_grad_batches = self._left = self.samples_per_step // size

    def take_up(self, size: int) -> bool:
        """Go on with a size that was reached, in a resumed run or with a loader that was made anew, where that fits."""
        if self._loader.current == size:
            return True
        if self._loader.current != self._loader.original or size not in self.sizes():
            self.put_back()
            return False
        self.bring_to(size)
        return True

    def put_back(self) -> None:
        """Leave the accumulation as it was given, unless another callback has changed it."""
        if self._trainer.accumulate_grad_batches == self._left:
            self._trainer.accumulate_grad_batches = self._left = self._given

    def _same(self, factor: int) -> bool:
        given = self._loader.original
        before, after = self._loader.counts_at(given), self._loader.counts_at(given * factor)
        whole = (
            training_loaders(self._trainer)[0].batch_sampler.drop_last or before.batches * given <= self._loader.most
        )
        by_batches = isinstance(self._trainer.val_check_interval, int)
        if by_batches and self._trainer.check_val_every_n_epoch is None:
            return False  # Lightning counts these batches over all epochs, those of before the change too
        return whole and after.times(factor) == before
