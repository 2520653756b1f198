"""How hard a single term of a loss pulls at some parameters, between the forward and the backward pass of a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_automations.probes.gradient_norm import norms_of, total_norm

__all__ = ["term_gradient_norm"]

_HALF = (torch.float16, torch.bfloat16)


def term_gradient_norm(term: Tensor, parameters: Sequence[Tensor], *, scale: Tensor | None = None) -> Tensor:
    """The Euclidean norm of a term's gradient by some parameters, on the device: shape ().

    The graph stays as it is for the backward pass, no ``grad`` is touched, and hooks that wait for accumulated
    gradients (those of distributed training) are not called. Nothing is read from the device.

    Args:
        term: Scalar with its graph.
        parameters: One or more that require a gradient. Those that the term does not depend on count as 0.
        scale: What to multiply the term with on its way back, one element above 0: in 16 bits small gradients would
            vanish. The norm is divided by it.

    Raises:
        RuntimeError: If torch cannot go back through the graph here (reentrant checkpointing), or not twice.
    """
    if not term.requires_grad:
        return torch.zeros((), device=term.device)
    wide = (term.float() if term.dtype in _HALF else term).sum()
    unit = None if scale is None else scale.to(wide).reshape(())
    found = torch.autograd.grad(wide, parameters, grad_outputs=unit, retain_graph=True, allow_unused=True)
    gradients = [each.coalesce().values() if each.is_sparse else each for each in found if each is not None]
    if not gradients:
        return torch.zeros((), device=term.device)
    norm = total_norm(norms_of(gradients))
    return norm if unit is None else norm / unit.to(norm)
