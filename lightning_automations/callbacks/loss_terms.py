"""The terms of a loss as a training step gives them: returned under ``loss_terms``, or logged."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

from torch import Tensor

__all__ = ["LoggedTerms", "checked_term", "returned_terms"]


def returned_terms(outputs: Any, names: Collection[str], *, in_order: bool) -> dict[str, Any]:
    """The terms that a training step has returned, by the names of their weights; none where it has returned none.

    Args:
        outputs: What the training step has returned.
        names: Those of the weights.
        in_order: The weights are entries of a tensor: the terms stand in their order, whatever their names are. Where
            one is missing it cannot be said which, and none is taken.
    """
    terms = outputs.get("loss_terms") if isinstance(outputs, Mapping) else None
    if not isinstance(terms, Mapping):
        return {}
    if not in_order:
        return {**terms}
    return dict(zip(names, terms.values(), strict=True)) if len(terms) == len(names) else {}


def checked_term(name: str, term: Any) -> Tensor | float:
    """A term that can be read.

    Raises:
        TypeError: If it is neither a real number nor a tensor of one.
    """
    if isinstance(term, Tensor) and term.numel() == 1 and not term.is_complex():
        return term
    if isinstance(term, Real):
        return float(term)
    got = f"a tensor of shape {tuple(term.shape)}, {term.dtype}" if isinstance(term, Tensor) else repr(term)
    raise TypeError(f"loss_terms.{name}: expected a real number or a tensor of one, got {got[:100]}")


class LoggedTerms:
    """Terms that are logged, each value once: ``callback_metrics`` keeps a value that is not logged again.

    Args:
        names: Logged name of each term.

    Example:
        >>> import torch
        >>> terms, loss = LoggedTerms({"l1": "train/l1"}), torch.tensor(0.5)
        >>> terms.new_values({"train/l1": loss}), terms.new_values({"train/l1": loss.detach()})
        ({'l1': tensor(0.5000)}, {})
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._last: dict[str, Tensor] = {}

    def new_values(self, logged: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By term, what has been logged since the last call."""
        values = {name: logged[key] for name, key in self._names.items() if key in logged}
        # Lightning detaches what it holds at every reading: a value is the same while its memory is.
        fresh = {
            name: value
            for name, value in values.items()
            if name not in self._last or value.data_ptr() != self._last[name].data_ptr()
        }
        self._last.update(fresh)
        return fresh
