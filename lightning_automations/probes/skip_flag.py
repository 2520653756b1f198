"""Fused optimizers skip a step by themselves where a flag on the device tells them to.

``torch.amp.GradScaler`` uses it: it sets ``found_inf`` on the optimizer before the step. Without a scaler the flag is
free, and it skips exactly: no weight, no momentum, no step counter moves, and nothing is read from the device.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from lightning_automations.probes.gradient_norm import is_sharded

__all__ = ["give_flag", "skips_by_flag", "take_flag", "takes_flag"]

FLAG = "found_inf"


def skips_by_flag(optimizer: Optimizer) -> bool:
    """Whether it is one of torch's fused optimizers in all its groups, over parameters that are whole."""
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return False
    # The groups decide, not the defaults: a checkpoint of a run that was not fused changes them.
    if not all(group.get("fused") for group in optimizer.param_groups):
        return False
    return not any(is_sharded(parameter) for group in optimizer.param_groups for parameter in group["params"][:1])


def takes_flag(optimizer: Optimizer, parameters: Iterable[Tensor]) -> bool:
    """Whether the flag can be given now.

    A parameter's first step that is skipped so would leave momentum that nobody has set, so each must have made one.

    Args:
        optimizer: Any.
        parameters: Those of its parameters that have gradients.
    """
    if not skips_by_flag(optimizer):
        return False
    if isinstance(optimizer, SGD) and not any(group["momentum"] for group in optimizer.param_groups):
        return True  # it never has any state
    return all(parameter in optimizer.state for parameter in parameters)


def give_flag(optimizer: Optimizer, flag: Tensor) -> None:
    """Have the next step skipped where the flag says so; it stays until the next one is given.

    Args:
        optimizer: One that takes it.
        flag: A truth value of one element, on the device of the parameters.
    """
    setattr(optimizer, FLAG, flag.to(torch.float32).reshape(()))


def take_flag(optimizer: Optimizer) -> None:
    """Take the flag away, if there is one."""
    if skips_by_flag(optimizer):
        vars(optimizer).pop(FLAG, None)
