"""A batch sampler whose batches may become larger in the middle of an epoch, with every sample once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

from torch.utils.data import BatchSampler

__all__ = ["GrowingBatches", "Stretches", "checked_stretches"]

Stretches = list[tuple[int, int]]
"""Parts of an epoch with smaller batches, in their order: the number of the first batch after it, and its size."""


class GrowingBatches(BatchSampler):
    """torch's own, where the size of a batch is asked for when it is drawn, by its number in the epoch.

    A loader draws batches in the main process, ahead of its workers; those that are drawn keep their size. Taken up by
    a sampler that is in use (``grow_from``) and given back (``give_back``): a loader's sampler cannot be exchanged.
    """

    stretches: Stretches
    offset: int
    """Batches of this epoch that were trained before this sampler started: those of an interrupted run."""
    drawn: int
    """Batches of this epoch that the loader has drawn."""

    @classmethod
    def grow_from(cls, sampler: BatchSampler, stretches: Stretches, *, offset: int) -> None:
        """Let a sampler of torch's own class be one that grows; iterators that it has given keep their way."""
        sampler.__class__ = cls
        vars(sampler).update(stretches=stretches, offset=offset, drawn=0)

    def give_back(self) -> None:
        """Become torch's own again."""
        for name in ("stretches", "offset", "drawn"):
            del self.__dict__[name]
        self.__class__ = BatchSampler  # type: ignore[assignment]

    def size_at(self, number: int) -> int:
        """Samples in the batch of this number in the epoch, from 0 on."""
        return next((size for end, size in self.stretches if number < end), self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        samples, number = iter(self.sampler), self.offset
        size = self.size_at(number)
        self.drawn = number
        while batch := list(islice(samples, size)):
            if self.drop_last and len(batch) < size:
                return
            number += 1
            self.drawn = number
            yield batch
            size = self.size_at(number)

    def __len__(self) -> int:
        samples, number = len(self.sampler), 0  # type: ignore[arg-type]
        for end, size in self.stretches:
            if samples < (end - number) * size:  # fewer than there were when it grew
                return number + self._batches_of(samples, size)
            samples, number = samples - (end - number) * size, end
        return number + self._batches_of(samples, self.batch_size)

    def _batches_of(self, samples: int, size: int) -> int:
        return samples // size if self.drop_last else -(-samples // size)


def checked_stretches(values: Iterable[Iterable[int]]) -> Stretches:
    """What a checkpoint has kept of an epoch's stretches.

    Raises:
        ValueError: If they are not one after the other, or a size is none.
    """
    stretches = [(int(end), int(size)) for end, size in values]
    ends = [0, *(end for end, _ in stretches)]
    if any(later <= end for end, later in pairwise(ends)) or any(size < 1 for _, size in stretches):
        raise ValueError(f"expected parts of an epoch, each with its end and its batch size, got {stretches}")
    return stretches
