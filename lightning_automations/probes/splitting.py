"""Batches cut into pieces of fewer samples.

A batch is a tensor, or tuples, lists, mappings, named tuples and dataclasses of them, nested. The first dimension of
every tensor is the samples. Tensors without dimensions, numbers, texts and None belong to every piece. What cannot be
read so is not split: a wrong guess would change the training silently. A first dimension that is not as long as the
loader's batch is taken for something else, as the time of a sequence.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor

__all__ = ["BatchReader", "Form", "Layout", "Split"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, Enum, torch.dtype, torch.device, torch.Size)


Split = Callable[[Any, int], Sequence[Any]]
"""Cuts a batch into pieces of at most so many samples, in their order."""


class _Unsplittable(Exception):
    """Something in the batch is neither a container nor of one entry per sample nor common to all samples."""


class Form(Enum):
    """Where the samples of a batch are."""

    FIELDS = "fields"
    """In the first dimension of every tensor."""
    ROWS = "rows"
    """The batch is a list of samples."""
    COLUMNS = "columns"
    """The batch holds one list of samples per field, as the images and targets of a detector."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one batch is cut.

    Args:
        samples: Number of samples in the batch.
        form: Where they are.
        split: The user's way to cut in place of ours: ``split(batch, size)`` gives pieces of at most ``size`` samples.
    """

    samples: int
    form: Form = Form.FIELDS
    split: Split | None = field(default=None, repr=False)

    def pieces(self, batch: Any, size: int) -> list[tuple[Any, int]]:
        """As few pieces of at most ``size`` samples as possible, as even as possible, each with its samples.

        A remainder of one sample would be a batch that batch normalization refuses.
        """
        count = -(-self.samples // size)
        if self.split is not None:
            pieces = self.split(batch, -(-self.samples // count))
            return [(piece, len(self.split(piece, 1))) for piece in pieces]
        bounds = [(place * self.samples // count, (place + 1) * self.samples // count) for place in range(count)]
        return [(self.piece(batch, start, stop), stop - start) for start, stop in bounds]

    def piece(self, batch: Any, start: int, stop: int) -> Any:
        """The samples from ``start`` up to ``stop``, tensors as views."""
        if self.form is Form.ROWS:
            return batch[start:stop]
        if self.form is Form.COLUMNS:
            return _rebuilt(batch, lambda column: _cut_column(column, self.samples, start, stop))
        return _cut(batch, self.samples, start, stop)


class BatchReader:
    """Finds out how the batches of one loader can be cut.

    A list of three tensors may be three fields or three samples. The first full batch decides; a smaller one at an
    epoch's end is then read in the same way. Once a batch seemed larger than the loader makes them, none is cut.

    Args:
        expected: The loader's batch size where it is known. Where it is not, tensors of one length are taken for
            samples.
        split: The user's own way to cut a batch, which then needs not be understood.

    Example:
        >>> BatchReader().layout({"image": torch.zeros(8, 3), "name": ["a"] * 8, "scale": 2.0})
        Layout(samples=8, form=<Form.FIELDS: 'fields'>)
    """

    def __init__(self, *, expected: int | None = None, split: Split | None = None) -> None:
        self._expected = expected
        self._split = split
        self._form: Form | None = None
        self._misread = False
        self._uneven = False

    def expect(self, samples: int) -> None:
        """The loader's batch has another size from now on."""
        self._expected = samples

    def layout(self, batch: Any, *, last: bool = False) -> Layout | None:
        """How this batch can be cut, or None when it cannot.

        Args:
            batch: The batch.
            last: Whether it is the last of an epoch, which may have fewer samples than the others.
        """
        if self._split is not None:
            known = None if last else self._expected
            return Layout(samples=len(self._split(batch, 1)) if known is None else known, split=self._split)
        sizes = {tensor.shape[0] for tensor in _tensors(batch) if tensor.ndim > 0}
        form = self._form or self._guess(batch, sizes)
        if sizes == {self._expected} or form is Form.ROWS:
            self._form = form
        samples = _samples(batch, form, sizes)
        if not samples or not self._plausible(samples, last=last):
            return None
        layout = Layout(samples=samples, form=form)
        try:
            layout.piece(batch, 0, samples)
        except _Unsplittable:
            return None
        return layout

    def _plausible(self, samples: int, *, last: bool) -> bool:
        """Whether the loader makes batches of so many samples."""
        if self._expected is None:
            return True
        self._misread = self._misread or samples > self._expected
        self._uneven = self._uneven or (samples < self._expected and not last)
        return not self._misread and (samples == self._expected or (last and not self._uneven))

    def _guess(self, batch: Any, sizes: set[int]) -> Form:
        if isinstance(batch, (list, tuple)) and len(batch) == self._expected and sizes != {self._expected}:
            return Form.ROWS
        return Form.FIELDS if len(sizes) == 1 else Form.COLUMNS


def _samples(batch: Any, form: Form, sizes: set[int]) -> int | None:
    if form is Form.FIELDS:
        return next(iter(sizes)) if len(sizes) == 1 else None
    lengths = {len(column) for column in _children(batch) if isinstance(column, (list, tuple))}
    if form is Form.COLUMNS:
        return lengths.pop() if len(lengths) == 1 else None
    # Two samples of two fields look like two fields of two samples.
    return len(batch) if isinstance(batch, (list, tuple)) and lengths != {len(batch)} else None


def _tensors(node: Any) -> Iterator[Tensor]:
    if isinstance(node, Tensor):
        yield node
    else:
        for child in _children(node):
            yield from _tensors(child)


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, (list, tuple)):
        yield from node
    elif isinstance(node, MutableMapping):
        yield from node.values()
    elif dataclasses.is_dataclass(node) and not isinstance(node, type):
        yield from (getattr(node, field.name) for field in dataclasses.fields(node))


def _cut(node: Any, samples: int, start: int, stop: int) -> Any:
    if isinstance(node, Tensor):
        return _cut_tensor(node, samples, start, stop)
    if isinstance(node, _PLAIN):
        return node
    if type(node) in (list, tuple) and len(node) == samples and not any(tensor.ndim > 0 for tensor in _tensors(node)):
        return node[start:stop]  # names, captions, labels: one per sample
    return _rebuilt(node, lambda child: _cut(child, samples, start, stop))


def _cut_column(column: Any, samples: int, start: int, stop: int) -> Any:
    if type(column) in (list, tuple) and len(column) == samples:
        return column[start:stop]
    if isinstance(column, Tensor):
        return _cut_tensor(column, samples, start, stop)
    if isinstance(column, _PLAIN):
        return column
    raise _Unsplittable


def _cut_tensor(tensor: Tensor, samples: int, start: int, stop: int) -> Tensor:
    if tensor.ndim == 0:
        return tensor
    if tensor.is_nested or tensor.layout is not torch.strided or tensor.shape[0] != samples:
        raise _Unsplittable
    return tensor[start:stop]


def _rebuilt(node: Any, change: Callable[[Any], Any]) -> Any:
    """The same container with each of its entries changed."""
    if type(node) in (list, tuple):
        return type(node)(change(child) for child in node)
    if isinstance(node, tuple) and hasattr(node, "_fields") and not isinstance(node, torch.nn.utils.rnn.PackedSequence):
        return type(node)(*(change(child) for child in node))
    if isinstance(node, MutableMapping):
        rebuilt = copy.copy(node)
        for key, value in node.items():
            rebuilt[key] = change(value)
        return rebuilt
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        copied = copy.copy(node)
        for field in dataclasses.fields(node):
            # A frozen dataclass refuses plain assignment, and its constructor may not take every field.
            object.__setattr__(copied, field.name, change(getattr(node, field.name)))
        return copied
    raise _Unsplittable
