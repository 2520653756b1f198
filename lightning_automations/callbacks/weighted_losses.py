"""What a module needs for its loss weights to be looked after, and how they are read and written."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from numbers import Real
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_automations.core.errors import ConfigError, Problem

__all__ = ["WeightedLosses", "drop_term_graphs", "read_weights", "write_weights"]

_SCALAR = "a tensor of shape ()"


class WeightedLosses:
    """A mixin for modules whose loss is a weighted sum of terms.

    Attributes:
        loss_weights: Weight of each term, by its name. ``DynamicLossScheduling`` changes it.

    Example:
        >>> from lightning.pytorch import LightningModule
        >>> class Restorer(WeightedLosses, LightningModule):
        ...     loss_weights = {"l1": 1.0, "edges": 0.1}
        ...     def training_step(self, batch, batch_idx):
        ...         return self.weighted(l1=batch.abs().mean(), edges=batch.diff().abs().mean())
        >>> Restorer().training_step(torch.tensor([1.0, 3.0]), 0)["loss"]
        tensor(2.2000)
    """

    loss_weights: Mapping[str, float]
    _term_graphs: dict[str, Tensor] | None = None
    """Filled by ``weighted`` where DynamicLossScheduling has asked for the terms with their graph, in this batch."""

    def weighted(self, **terms: Tensor) -> dict[str, Any]:
        """What ``training_step`` returns: the weighted sum under ``loss``, and the terms under ``loss_terms``.

        Args:
            terms: Scalars, by the names of ``loss_weights``; a term may be missing in a step.

        Raises:
            ValueError: If a term has no weight, or is no scalar tensor.
        """
        unknown = sorted(set(terms) - set(self.loss_weights))
        if unknown or not terms:
            named = ", ".join(self.loss_weights)
            raise ValueError(f"expected terms of loss_weights ({named}), got {unknown or 'none'}")
        wrong = {name: _form(term) for name, term in terms.items() if _form(term) != _SCALAR}
        if wrong:
            raise ValueError(f"expected {_SCALAR} for each term, got {wrong}; .mean() or torch.tensor() make one")
        if self._term_graphs is not None:
            self._term_graphs.update(terms)
        loss = torch.stack([self.loss_weights[name] * term for name, term in terms.items()]).sum()
        return {"loss": loss, "loss_terms": {name: term.detach() for name, term in terms.items()}}


def _form(term: Any) -> str:
    return f"a tensor of shape {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__


def drop_term_graphs(module: LightningModule) -> None:
    """Let go of the terms of a try that failed, whose graph would fill the memory of the next one."""
    graphs = getattr(module, "_term_graphs", None)
    if graphs:
        graphs.clear()


def read_weights(module: LightningModule) -> dict[str, float] | None:
    """The weights of a module, read once at the start; None where it has none that can be written.

    They may be numbers, or tensors of one element (a ``ParameterDict``, a mapping of buffers), by their names, or the
    entries of a tensor (a buffer), by their places.

    Raises:
        ConfigError: If one is no finite number, or a tensor of integers, which would lose the fraction of a weight.
    """
    weights = _entries(getattr(module, "loss_weights", None))
    if weights is None or _is_made_anew(module):
        return None
    problems = [
        Problem(path=f"loss_weights.{name}", expected="a finite number, or a floating-point tensor of one", got=got)
        for name, weight in weights.items()
        if (got := _unfit(name, weight)) is not None
    ]
    if problems:
        raise ConfigError(problems)
    return {name: float(weight) for name, weight in weights.items()}


def _entries(held: Any) -> Any:
    """The weights by their names: a mapping itself, of a tensor its entries by their places, else None."""
    if isinstance(held, Tensor) and held.ndim == 1:
        return {str(place): entry for place, entry in enumerate(held.unbind())}
    return held if isinstance(held, (Mapping, torch.nn.ParameterDict)) else None


def _unfit(name: Any, weight: Any) -> str | None:
    """What a weight is that cannot be one; None where it can."""
    if not isinstance(name, str):
        return f"a name that is no text ({type(name).__name__})"
    if isinstance(weight, Tensor) and weight.requires_grad:
        return "a parameter that is trained (requires_grad_(False) leaves it alone)"
    if isinstance(weight, Tensor) and (weight.numel() != 1 or not weight.is_floating_point()):
        return f"a tensor of shape {tuple(weight.shape)} and type {weight.dtype}"
    if not isinstance(weight, (Tensor, Real)):
        return repr(weight)
    return None if math.isfinite(float(weight)) else f"{float(weight)}"


def write_weights(module: LightningModule, weights: Mapping[str, float]) -> None:
    """Give a module these weights: numbers in a mapping of its own, tensors in place and without a wait."""
    held: Any = module.loss_weights
    entries = _entries(held)
    numbers = {name: weight for name, weight in weights.items() if not isinstance(entries[name], Tensor)}
    for name, weight in weights.items():
        if name not in numbers:
            with torch.no_grad():
                entries[name].fill_(weight)
    if not numbers:
        return
    of_property = _property_of(module)
    if of_property is not None and of_property.fset is not None:
        setattr(module, "loss_weights", {**held, **numbers})  # noqa: B010 - typed as a mapping that is only read
    elif of_property is None and ("loss_weights" not in vars(module) or not isinstance(held, MutableMapping)):
        # that of the class would change it for every other module
        vars(module)["loss_weights"] = {**held, **numbers}
    else:
        held.update(numbers)


def _property_of(module: LightningModule) -> property | None:
    found = getattr(type(module), "loss_weights", None)
    return found if isinstance(found, property) else None


def _is_made_anew(module: LightningModule) -> bool:
    """Whether a property without a setter makes the mapping at every reading: numbers written to it are lost."""
    of_property = _property_of(module)
    if of_property is None or of_property.fset is not None:
        return False
    first, second = of_property.__get__(module), of_property.__get__(module)
    if isinstance(first, Tensor):
        return bool(first.data_ptr() != second.data_ptr())
    if all(isinstance(value, Tensor) and value is second[name] for name, value in first.items()):
        return False
    return first is not second or not isinstance(first, MutableMapping)
