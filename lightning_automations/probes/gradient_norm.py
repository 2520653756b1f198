"""The gradients of one optimizer: their norm, and what can be done to them without reading anything back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

__all__ = ["clip_to", "drop_gradients", "parameters_with_gradients", "sharded", "total_norm", "zero_gradients"]


def parameters_with_gradients(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of an optimizer that have a gradient now, in the order of its groups."""
    return [
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.grad is not None
    ]


def total_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients as one vector, on the device; infinite or NaN where one of them is.

    A sparse gradient counts with its rows added up, as the optimizer will see it.

    Args:
        parameters: Parameters that have gradients.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return get_total_norm([gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients])


def clip_to(parameters: Sequence[Tensor], norm: Tensor, *, threshold: float, usual: float, far_outlier: float) -> None:
    """Scale gradients whose norm is above the threshold down to it, and far outliers down to the usual norm.

    The choice is made on the device. A norm that is not finite leaves NaN behind, as torch's own clipping does.

    Args:
        parameters: Parameters that have gradients.
        norm: What ``total_norm`` gave for them.
        threshold: Largest norm.
        usual: What is left of a far outlier, at most the threshold.
        far_outlier: From how many times the threshold on a norm is a far outlier.
    """
    # In units of the threshold: torch adds 1e-6 to the norm, which is no small number where the loss has a tiny unit.
    ratio = norm / threshold
    # A norm that is taken for larger by threshold / usual is scaled down to usual instead of threshold.
    seen_as = torch.where(ratio > far_outlier, ratio * (threshold / usual), ratio)
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
        if parameter.grad is not None:
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
            values = parameter.grad.values() if parameter.grad.is_sparse else parameter.grad
            values.masked_fill_(where.to(values.device), 0.0)


def sharded(parameters: Iterable[Tensor]) -> bool:
    """Whether a parameter is a ``DTensor``, of which this process holds a part only."""
    # By name: importing torch.distributed.tensor takes a second, and some builds of torch lack it.
    return any("DTensor" in (type(parameter).__name__, type(parameter.data).__name__) for parameter in parameters)
