"""One training step that is run whole, or again in pieces when memory does not suffice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_automations.lightning_internals import (
    LoggedResults,
    closure_parts,
    closure_with_parts,
    step_of_piece,
)
from lightning_automations.probes.out_of_memory import free_cached_memory, is_out_of_memory, release
from lightning_automations.probes.rewinding import GradientsAside, GradientsKept
from lightning_automations.probes.splitting import Layout

if TYPE_CHECKING:
    from lightning_automations.callbacks.survival import Preparation, Survival

__all__ = ["SplittingClosure", "combined"]


class SplittingClosure:
    """Stands in for the closure that Lightning hands to the optimizer.

    It runs forward and backward of one batch. When memory runs out in either, everything the try has changed is put
    back and the batch is run again in pieces: their losses are weighted, their gradients add up to the batch's. The
    optimizer's own work comes after the closure, so its errors never arrive here.

    Args:
        survival: What is the same for all steps of the fit.
        lightning: The closure that Lightning made for this batch.
        keywords: The arguments of the training step, ``batch`` among them.
        optimizer: The optimizer.
    """

    def __init__(self, survival: Survival, lightning: Any, keywords: Mapping[str, Any], optimizer: Optimizer) -> None:
        self._survival = survival
        self._lightning = lightning
        self._keywords = keywords
        self._step, self._backward, self._zero_grad = closure_parts(lightning)
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._gradients: GradientsAside | GradientsKept = GradientsAside(self._parameters)
        self._result: Any = None
        self._zeroed = False
        self._gradients_taken = False
        self._beyond_recall = False
        self._in_pieces_now = False

    def __call__(self) -> Tensor | None:
        self._zeroed = self._beyond_recall = self._gradients_taken = False
        if self._survival.processes.synchronizes:
            self._gradients = GradientsKept(self._parameters)
        with self._survival.running(self):
            self._result = self._run()
        loss: Tensor | None = self._result.loss
        return loss

    def consume_result(self) -> Any:
        """The outputs of the step, once, as Lightning's loop asks for them."""
        result, self._result = self._result, None
        return result

    def after_backward(self, tensor: Tensor) -> bool:
        """The gradients of a backward pass are complete; whether the hooks that wait for the whole batch's may run."""
        if self._in_pieces_now:
            return False
        self._complete_gradients()
        return True

    # Trying ----------------------------------------------------------------------------------------------------------

    def _run(self) -> Any:
        survival = self._survival
        prepared = survival.prepare(self._keywords["batch"])
        if prepared is None:
            return self._lightning.closure()
        layout, size = prepared.layout, prepared.size
        first: BaseException | None = None
        while True:
            try:
                result, error = self._try(layout, size, prepared.logged)
            except Exception as other:
                survival.refuse_pieces(first, other, size, layout)
                raise
            if error is None:
                if layout is not None and size is not None:
                    survival.went_well(size, layout.samples)
                return result
            # Outside of the except block, where the error's frames no longer hold the tensors of the try.
            release(error)
            first = first or error
            survival.refuse_where_others_wait(first)
            self._put_back(prepared)
            size = survival.next_size(first, size, layout)
            survival.processes.run_again()

    def _try(self, layout: Layout | None, size: int | None, logged: LoggedResults) -> tuple[Any, BaseException | None]:
        try:
            if layout is None or size is None or size >= layout.samples:
                return self._whole(), None
            return self._in_pieces(layout, size, logged), None
        except (RuntimeError, MemoryError) as error:
            if self._beyond_recall or not is_out_of_memory(error):
                raise
            self._survival.refuse_elsewhere(error)
            return None, error

    def _put_back(self, prepared: Preparation) -> None:
        self._in_pieces_now = False
        if self._gradients_taken:
            self._gradients.put_back()
            self._gradients_taken = False
        free_cached_memory(self._survival.device)
        self._survival.put_back()
        prepared.random_states.put_back()
        prepared.logged.put_back()

    # The two ways to run a batch -------------------------------------------------------------------------------------

    def _whole(self) -> Any:
        closure = closure_with_parts(
            self._lightning,
            self._whole_step,
            self._run_backward if self._backward is not None else None,
            self._run_zero_grad if self._zero_grad is not None else None,
        )
        return closure.closure()

    def _whole_step(self) -> Any:
        output = self._step()
        self._survival.processes.whole_step_done()
        return output

    @torch.enable_grad()
    def _in_pieces(self, layout: Layout, size: int, logged: LoggedResults) -> Any:
        batch = self._keywords["batch"]
        pieces = layout.pieces(batch, size)
        shares, factors = self._survival.weights([piece for piece, _ in pieces], [samples for _, samples in pieces])
        outputs = _Outputs()
        self._in_pieces_now = True
        processes = self._survival.processes
        for place, (piece, samples) in enumerate(pieces):
            with processes.apart() if place < len(pieces) - 1 else nullcontext():
                logged.begin_piece(piece, first=place == 0)
                output = step_of_piece(self._survival.trainer, self._keywords, piece)()
                processes.piece_step_done()
                if place == 0:
                    logged.whole_batch()
                    self._run_zero_grad()
                    logged.begin_piece(piece, first=True)
                if output.closure_loss is not None:
                    self._run_backward(output.closure_loss * factors[place])
                outputs.add(output, share=shares[place], factor=factors[place], samples=samples)
                logged.end_piece(shares[place])
                del output
        self._in_pieces_now = False
        logged.whole_batch()
        result = outputs.result()
        if self._gradients_taken:
            self._complete_gradients()
            self._survival.run_held_back(result.closure_loss)
        logged.end_pieces()
        return result

    def _run_zero_grad(self) -> None:
        if self._zero_grad is not None and not self._zeroed:
            self._zeroed = True
            self._zero_grad()

    def _run_backward(self, loss: Tensor) -> None:
        if self._backward is None:
            return
        if not self._gradients_taken:
            self._gradients.take()
            self._gradients_taken = True
        self._backward(loss)

    def _complete_gradients(self) -> None:
        # From here on the accumulated gradients hold this batch's, and hooks of others have seen them.
        self._beyond_recall = True
        if self._gradients_taken:
            self._gradients.merge()


class _Outputs:
    """The outputs of the pieces as the output of the whole batch."""

    def __init__(self) -> None:
        self._kind: Any = None
        self._loss: Tensor | None = None
        self._extras: dict[str, list[tuple[Any, float, int]]] = {}

    def add(self, output: Any, *, share: float, factor: float, samples: int) -> None:
        self._kind = type(output)
        if output.closure_loss is None:
            return
        loss = output.closure_loss.detach() * factor
        self._loss = loss if self._loss is None else self._loss + loss
        for name, value in output.extra.items():
            self._extras.setdefault(name, []).append((_detached(value), share, samples))

    def result(self) -> Any:
        return self._kind(self._loss, extra={name: combined(parts) for name, parts in self._extras.items()})


def combined(parts: Sequence[tuple[Any, float, int]]) -> Any:
    """What a step returned for each piece as that of the whole batch; a mapping (``loss_terms``) by its entries.

    Args:
        parts: Value, share of the batch, and samples of each piece.
    """
    values = [value for value, _, _ in parts]
    if all(isinstance(value, Mapping) for value in values):
        return {name: _entry(parts, name) for name in {name: None for value in values for name in value}}
    if all(isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == samples for value, _, samples in parts):
        return torch.cat(values)
    if all(_is_scalar(value) for value in values):
        total = sum(share for _, share, _ in parts)
        return sum(value * (share / total) for value, share, _ in parts)
    return values[-1]


def _entry(parts: Sequence[tuple[Any, float, int]], name: Any) -> Any:
    """Of the pieces that have it: a term may be missing in some."""
    return combined([(value[name], share, samples) for value, share, samples in parts if name in value])


def _detached(value: Any) -> Any:
    """No piece's graph outlives its backward pass."""
    if isinstance(value, Mapping):
        return {name: _detached(entry) for name, entry in value.items()}
    return value.detach() if isinstance(value, Tensor) else value


def _is_scalar(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0
    return isinstance(value, (int, float)) and not isinstance(value, bool)
