"""Fused optimizers skip a step by themselves where a flag on the device tells them to.

``torch.amp.GradScaler`` uses it: it sets ``found_inf`` on the optimizer before the step. Without a scaler the flag is
free, and it skips exactly: no weight, no momentum, no step counter moves, and nothing is read from the device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_automations.probes.gradient_norm import is_sharded

__all__ = ["give_flag", "skips_by_flag", "take_flag", "takes_flag"]

FLAG = "found_inf"


def skips_by_flag(optimizer: Optimizer) -> bool:
    """Whether it is one of torch's fused optimizers, over parameters that are whole."""
    fused = bool(optimizer.defaults.get("fused")) and bool(getattr(optimizer, "_step_supports_amp_scaling", False))
    return fused and not is_sharded(optimizer.param_groups[0]["params"][0])


def takes_flag(optimizer: Optimizer) -> bool:
    """Whether the flag can be given now: a first step that is skipped so would leave momentum that nobody has set."""
    return skips_by_flag(optimizer) and bool(optimizer.state)


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
