"""Gradient reduction of DistributedDataParallel (DDP), seen from outside: what it has begun, and how it begins anew."""

from __future__ import annotations

from typing import Any

import torch.distributed as distributed
from torch.nn.parallel import DistributedDataParallel

__all__ = ["collectives_made", "counts_collectives", "forget_reduction", "wrapper_obstacle"]


def collectives_made() -> int:
    """How many collectives this process has begun so far, over all its process groups. Costs about 1 us.

    Two ranks that train together agree in what they begin, one after the other. A rank that runs something again must
    not have begun any since, for the others would not answer a second time.
    """
    groups: Any = distributed.distributed_c10d._world.pg_map
    return sum(int(group._get_sequence_number_for_group()) for group in groups)


def counts_collectives() -> bool:
    """Whether the backend of every process group counts its collectives (gloo and NCCL do)."""
    try:
        collectives_made()
    except RuntimeError:
        return False
    return True


def wrapper_obstacle(wrapper: DistributedDataParallel) -> str | None:
    """Why a forward and backward pass through this wrapper cannot be run again, or None when it can."""
    if wrapper.static_graph:
        return "DDP was told that the graph is static (static_graph)"
    if wrapper.mixed_precision is not None:
        return "DDP keeps the parameters in a precision of its own (mixed_precision)"
    if hasattr(wrapper, "buffer_hook"):
        return "DDP has a communication hook for buffers"
    if wrapper._use_python_reducer or wrapper._delay_all_reduce_all_params:
        return "DDP does not reduce gradients in its usual way"
    return None


def forget_reduction(wrapper: DistributedDataParallel) -> None:
    """Let the next passes run as if the last synchronised forward pass had not been; no bucket may be reduced yet.

    A backward pass that ended in an error leaves DDP waiting for the rest of the gradients: the next forward pass would
    raise, and the next backward pass would reduce, whatever ``no_sync`` says.
    """
    wrapper.reducer._reset_state()
    # Told to start afresh, DDP would also arrange its buckets anew, which is a collective that the others do not make.
    # It does so once gradients were counted since; that is undone before each forward pass. In the first steps the
    # buckets have never been arranged, and all ranks do it together.
    if wrapper._has_rebuilt_buckets and _reset_before_forward not in wrapper._forward_pre_hooks.values():
        wrapper.register_forward_pre_hook(_reset_before_forward)


def _reset_before_forward(wrapper: Any, _: Any) -> None:
    wrapper.reducer._reset_state()
