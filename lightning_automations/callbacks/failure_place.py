"""Where memory ran out: the place and the remedy, for errors that no splitting can help."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.utils.data import Dataset

from lightning_automations.callbacks.namespaces import CALLBACK_BASES
from lightning_automations.probes.out_of_memory import is_out_of_memory

__all__ = ["UNCLEAR_BATCH", "explain", "name_the_place", "of_the_module", "outside_of_step"]

UNCLEAR_BATCH = (
    "This batch cannot be split: its number of samples is not clear from its tensors. "
    "A split_batch(batch, size) of the module or data module would say how."
)

_MARK = "_lightning_automations_explained"
_CALLERS_OF_HOOKS = {"pre_backward": "on_before_backward", "_run_zero_grad": "on_before_zero_grad"}
"""Functions in a step's closure, of Lightning and of ours, that call a hook of the callbacks and the module."""
_OF_THE_STEP = frozenset({"training_step", "backward"})
_HOOKS = _OF_THE_STEP | {"validation_step", "transfer_batch_to_device", "configure_gradient_clipping", "optimizer_step"}


def explain(error: BaseException, text: str) -> None:
    """Add a line to an error's message, once: the first explanation is nearest to the cause."""
    if not hasattr(error, _MARK):
        error.args = (f"{error}\n{text}",)
        setattr(error, _MARK, True)


def name_the_place(error: BaseException, trainer: Trainer) -> None:
    """Add to an out-of-memory error where it arose and what helps there; an error of another kind is left alone.

    Args:
        error: The error that ended the fit.
        trainer: The trainer.
    """
    place = _place_of(error, trainer) if is_out_of_memory(error) else None
    if place is not None:
        explain(error, place)


def _place_of(error: BaseException, trainer: Trainer) -> str | None:
    """Where an out-of-memory error arose and what helps there; None in a training step's forward or backward pass.

    The innermost frame that belongs to the module, an optimizer, a callback or the data says it.
    """
    for frame in _innermost_first(error):
        owner = _owner(frame)
        hook = frame.f_code.co_name
        # Its own helpers, and forward, say less than the hook that called them.
        if _is_module(owner) and (hook in _HOOKS or hook.startswith("on_")):
            return None if hook in _OF_THE_STEP else of_the_module(hook, trainer)
        if isinstance(owner, Optimizer):
            return (
                f"Memory ran out in the step of the optimizer {type(owner).__name__}, which does not depend on the "
                "batch: its states may be half made, so the step is not run again. Use an optimizer with fewer states, "
                "or a smaller target_vram_usage, so that pieces leave room for them."
            )
        if isinstance(owner, CALLBACK_BASES):
            return _of_the_callback(owner)
        if isinstance(owner, Dataset) or type(owner).__module__.startswith("torch.utils.data"):
            return (
                "Memory ran out in the data loader, before the batch could be split: use a smaller batch_size there, "
                "fewer workers, or a smaller prefetch_factor."
            )
    return None


def outside_of_step(error: BaseException, trainer: Trainer) -> str | None:
    """Where else than in the forward or backward pass an error arose in a training step's closure.

    Args:
        error: As it was caught in the closure. The outermost frame of the module or a callback counts: what a training
            step calls belongs to it.
        trainer: The trainer.

    Returns:
        The place; None in a forward or backward pass, or where it is not clear.
    """
    place = None
    for frame in reversed(list(_innermost_first(error))):
        owner, hook = _owner(frame), frame.f_code.co_name
        if hook in _CALLERS_OF_HOOKS:  # a function in the place of a callback's method says no more
            place = f"Memory ran out in {_CALLERS_OF_HOOKS[hook]} of a callback, which is not run again."
        if _is_module(owner) and hook in _OF_THE_STEP:
            return None
        if _is_module(owner) and hook.startswith("on_"):
            return of_the_module(hook, trainer)
        if isinstance(owner, CALLBACK_BASES):
            return _of_the_callback(owner)
    return place


def of_the_module(hook: str, trainer: Trainer) -> str:
    """In which method of the module memory ran out, and what helps there."""
    if hook.startswith(("validation", "on_validation")):
        when = " of the sanity check" if trainer.sanity_checking else ""
        return (
            f"Memory ran out in the module's {hook}{when}, which cannot be split: use a smaller batch_size in the "
            "validation loader."
        )
    return f"Memory ran out in the module's {hook}, which is not run again."


def _of_the_callback(callback: object) -> str:
    return f"Memory ran out in the callback {type(callback).__name__}, which is not run again."


def _is_module(owner: object) -> bool:
    """Whether it is a module of either package."""
    return hasattr(owner, "automatic_optimization")


def _owner(frame: FrameType) -> object:
    """The object whose method runs: the first argument, by whatever name; None in a function without one."""
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None


def _innermost_first(error: BaseException) -> Iterator[FrameType]:
    frames = []
    link = error.__traceback__
    while link is not None:
        frames.append(link.tb_frame)
        link = link.tb_next
    return reversed(frames)
