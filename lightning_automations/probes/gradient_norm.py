"""The gradients of one optimizer: their norms, and what can be done to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer

_HALF = frozenset({torch.float16, torch.bfloat16})

__all__ = [
    "clip_on_device",
    "drop_gradients",
    "gradient_norms",
    "is_sharded",
    "norm_of_huge",
    "norms_of",
    "parameters_with_gradients",
    "scale_gradients",
    "shardings",
    "total_norm",
    "zero_gradients",
]


def parameters_with_gradients(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of an optimizer that have a gradient now, in the order of its groups."""
    return [
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None
    ]


def gradient_norms(parameters: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of each gradient, on the device: shape (parameters,).

    A sparse gradient counts with its rows added up, as the optimizer will see it. One that is sharded over processes (a
    ``DTensor``, as FSDP2 and tensor parallelism make them) counts whole: all processes come by here together.

    Args:
        parameters: Parameters that have gradients, one or more.
    """
    return norms_of([_seen(parameter) for parameter in parameters])


def norms_of(gradients: list[Tensor]) -> Tensor:
    """As ``gradient_norms``, of dense tensors: one or more."""
    # In 16 bits the norm of finite gradients overflows from 65,504 on.
    wide = torch.float32 if {gradient.dtype for gradient in gradients} <= _HALF else None
    stacked = _stacked(torch._foreach_norm(gradients, 2, wide))
    return cast("Any", stacked).full_tensor() if is_sharded(stacked) else stacked


def total_norm(norms: Tensor) -> Tensor:
    """The Euclidean norm of all gradients as one vector, on the device; infinite or NaN where one of them is.

    Args:
        norms: What ``gradient_norms`` gave.
    """
    wide = torch.float32 if norms.dtype in _HALF else norms.dtype
    norm: Tensor = torch.linalg.vector_norm(norms, dtype=wide)
    return norm


def norm_of_huge(parameters: Iterable[Tensor]) -> float:
    """The Euclidean norm of all gradients where their squares overflow; infinite or NaN where one of them is.

    In 32 bits the sum of squares is infinite from a norm of 1.8e19 on, although the gradients are finite. Reads their
    largest values once, and their norms once more where all are finite.

    Args:
        parameters: Parameters that have gradients.
    """
    gradients = [gradient for gradient in map(_seen, parameters) if gradient.numel()]
    largest: list[float] = _stacked(torch._foreach_norm(gradients, math.inf)).tolist()
    if not all(map(math.isfinite, largest)):
        return math.nan if any(map(math.isnan, largest)) else math.inf
    unit = max(largest)
    return unit * math.hypot(*_stacked(torch._foreach_norm(torch._foreach_div(gradients, unit))).tolist())


def scale_gradients(parameters: Iterable[Tensor], factor: float) -> None:
    """Multiply all gradients by a number."""
    torch._foreach_mul_([_values(parameter) for parameter in parameters], factor)


def clip_on_device(parameters: Sequence[Tensor], norm: Tensor, *, threshold: float, usual: float, far: float) -> None:
    """Scale gradients whose norm is above the threshold down to it, and far outliers down to the usual norm.

    The choice is made on the device, and nothing is read. A norm that is not finite leaves NaN behind, as torch's own
    clipping does.

    Args:
        parameters: Parameters that have gradients.
        norm: Of all of them.
        threshold: Largest norm.
        usual: What is left of a far outlier, at most the threshold.
        far: From how many times the threshold on a norm is a far outlier.
    """
    # In units of the threshold: torch adds 1e-6 to the norm, which is no small number where the loss has a tiny unit.
    ratio = norm / threshold
    # A norm that is taken for larger by threshold / usual is scaled down to usual instead of threshold.
    seen_as = torch.where(ratio > far, ratio * (threshold / usual), ratio)
    clip_grads_with_norm_(parameters, 1.0, seen_as)


def drop_gradients(parameters: Iterable[Tensor]) -> None:
    """Take the gradients away. Optimizers pass over parameters without one: no momentum, no decay, no step counted."""
    for parameter in parameters:
        parameter.grad = None


def zero_gradients(parameters: Iterable[Tensor], *, where: Tensor) -> None:
    """Set all gradients to zero where one flag on the device says so; one operation for each gradient.

    Args:
        parameters: Parameters that have gradients.
        where: A truth value of one element.
    """
    for parameter in parameters:
        values = _values(parameter)
        values.masked_fill_(where.to(values.device), 0.0)


def shardings(parameters: Iterable[Tensor]) -> set[Any]:
    """The device meshes over which parameters are sharded; None for those that are whole."""
    return {cast("Any", parameter).device_mesh if is_sharded(parameter) else None for parameter in parameters}


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a ``DTensor``, of which this process may hold a part only."""
    # By name: importing torch.distributed.tensor takes a second, and some builds of torch lack it.
    return "DTensor" in (type(tensor).__name__, type(tensor.data).__name__)


def _stacked(norms: Sequence[Tensor]) -> Tensor:
    """On the device of the first one."""
    try:
        return torch.stack(list(norms))
    except RuntimeError:  # a model on several devices
        return torch.stack([norm.to(norms[0].device) for norm in norms])


def _seen(parameter: Tensor) -> Tensor:
    """The numbers of a gradient, only to be read; those of a sparse one with its rows added up."""
    gradient = cast("Tensor", parameter.grad)
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _values(parameter: Tensor) -> Tensor:
    """The same to be changed: a sparse gradient is kept with its rows added up."""
    gradient = cast("Tensor", parameter.grad)
    if not gradient.is_sparse:
        return gradient
    if not gradient.is_coalesced():
        gradient = parameter.grad = gradient.coalesce()
    return gradient.values()
