"""Validation batches that memory does not hold are run in pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer

from lightning_automations.callbacks.failure_place import UNCLEAR_BATCH, explain
from lightning_automations.callbacks.splitting_closure import combined
from lightning_automations.core.pieces import largest_piece, smaller_piece
from lightning_automations.lightning_internals import LoggedResults
from lightning_automations.probes.out_of_memory import free_cached_memory, is_out_of_memory, release
from lightning_automations.probes.rewinding import ModuleMetrics, RandomStates
from lightning_automations.probes.splitting import BatchReader, Layout, Split

__all__ = ["ValidationPieces"]


class ValidationPieces:
    """Stands in for the strategy's ``validation_step`` until ``remove``.

    After an out-of-memory error what the step has logged, its metrics and the random states are put back, and the batch
    is run in pieces, halved until they fit. Metrics take in the pieces one after the other, and Lightning weighs what
    is logged by the samples of each: means over samples and torchmetrics objects are those of the whole batch. What a
    step computes from its whole batch in another way is that of the pieces, weighted.

    Args:
        trainer: The trainer, before the first validation.
        module: Its module; one that couples the samples of a batch is not split.
        split: The user's own way to cut a batch; None: ours.
        least: The fewest samples of a piece.
        tell: Called with the batch's samples and the new size of the pieces.
    """

    def __init__(
        self,
        trainer: Trainer,
        module: LightningModule,
        *,
        split: Split | None,
        least: int,
        tell: Callable[[int, int], None],
    ) -> None:
        self._trainer = trainer
        self._module = module
        self._split = split
        self._least = least
        self._tell_user = tell
        self._metrics = ModuleMetrics(module)
        self._size: int | None = None
        self._readers: dict[int, BatchReader] = {}
        self._strategy = cast("Any", trainer.strategy)
        self._before = self._strategy.__dict__.get("validation_step")
        self._step = self._strategy.validation_step
        self._strategy.validation_step = self._run

    def remove(self) -> None:
        """Put the strategy's own method back."""
        if self._before is None:
            del self._strategy.validation_step
        else:
            self._strategy.validation_step = self._before

    def _run(self, batch: Any, *others: Any) -> Any:
        """One validation batch, in pieces once one was too large."""
        random_states = RandomStates(self._module.device)
        self._metrics.keep()
        logged = LoggedResults(self._trainer, validation=True)
        layout, size = None, None
        if self._size is not None:
            layout = self._layout_of(batch, others)
            size = self._size if layout is not None and self._size < layout.samples else None
        first: BaseException | None = None
        while True:
            output, error = self._try(batch, others, layout, size, logged)
            if error is None:
                return output
            # Outside of the except block, where the error's frames no longer hold the tensors of the try.
            release(error)
            first = first or error
            free_cached_memory(self._module.device)
            self._metrics.put_back()
            random_states.put_back()
            logged.put_back()
            layout = layout or self._layout_of(batch, others)
            size = self._next_size(first, layout, size)

    def _try(
        self, batch: Any, others: Sequence[Any], layout: Layout | None, size: int | None, logged: LoggedResults
    ) -> tuple[Any, BaseException | None]:
        try:
            if layout is None or size is None:
                return self._step(batch, *others), None
            return self._in_pieces(batch, others, layout, size, logged), None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None, error

    def _in_pieces(self, batch: Any, others: Sequence[Any], layout: Layout, size: int, logged: LoggedResults) -> Any:
        outputs = []
        for place, (piece, samples) in enumerate(layout.pieces(batch, size)):
            share = samples / layout.samples
            logged.begin_piece(piece, first=place == 0)
            outputs.append((self._step(piece, *others), share, samples))
            logged.end_piece(share)
        logged.end_pieces()
        return combined(outputs)

    def _next_size(self, error: BaseException, layout: Layout | None, size: int | None) -> int:
        """Half of what was tried last.

        Raises:
            BaseException: ``error``, with what was tried in its message, when nothing is left to try.
        """
        if layout is None:
            explain(error, f"{self._place()} {UNCLEAR_BATCH}")
            raise error
        tried = layout.samples if size is None else largest_piece(layout.samples, size)
        smaller = smaller_piece(layout.samples, tried, least=self._least)
        if smaller is None:
            explain(
                error,
                f"{self._place()} The batch of {layout.samples} samples was also tried in pieces, down to {tried} "
                f"(min_batch_size {self._least}).",
            )
            raise error
        self._size = smaller
        self._tell_user(tried, smaller)
        return smaller

    def _place(self) -> str:
        when = " of the sanity check" if self._trainer.sanity_checking else ""
        return f"Memory ran out in the module's validation_step{when}."

    def _layout_of(self, batch: Any, others: Sequence[Any]) -> Layout | None:
        """How a batch of its loader is cut; the last one may be smaller, and so may be any."""
        place = int(others[1]) if len(others) > 1 else 0
        reader = self._readers.setdefault(place, BatchReader(expected=self._given(place), split=self._split))
        return reader.layout(batch, last=True)

    def _given(self, place: int) -> int | None:
        loaders: Any = self._trainer.val_dataloaders
        if isinstance(loaders, Mapping):
            loaders = list(loaders.values())
        one = loaders[place] if isinstance(loaders, (list, tuple)) else loaders
        size = getattr(one, "batch_size", None)
        return size if isinstance(size, int) else None
