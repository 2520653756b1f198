"""Where gradients cannot be clipped by us, and who else clips them."""

from __future__ import annotations

from collections.abc import Iterable

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import Strategy
from torch.optim import LBFGS, Optimizer

from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.lightning_internals import unscales_by_itself
from lightning_automations.probes.gradient_norm import shardings

__all__ = ["UNCLIPPED", "ValueClipping", "other_clippings", "refuse_optimizers", "refuse_sharding", "unclipped"]

SHARDING_STRATEGIES = frozenset({"DeepSpeedStrategy", "FSDPStrategy", "XLAFSDPStrategy"})
"""Under ``ModelParallelStrategy`` (FSDP2, tensor parallelism) parameters are ``DTensor``, whose norms add up."""


UNCLIPPED = (LBFGS,)
"""They learn the curvature from the difference of two gradients, which a threshold makes alike."""


class ValueClipping:
    """Lightning's own clipping by value, kept from a step whose gradients were taken away: torch cannot clip none."""

    def __init__(self) -> None:
        self._value: float | None = None

    def pause(self, trainer: Trainer) -> None:
        """Do not clip by value until ``go_on``; clipping by norm bears a step without gradients."""
        if trainer.gradient_clip_val and trainer.gradient_clip_algorithm == "value":
            self._value, trainer.gradient_clip_val = trainer.gradient_clip_val, 0.0

    def go_on(self, trainer: Trainer) -> None:
        """Clip as before."""
        if self._value is not None:
            trainer.gradient_clip_val, self._value = self._value, None


def refuse_sharding(strategy: Strategy, *, automation: str) -> None:
    """Refuse a strategy under which a process sees only a part of each gradient, and so only a part of the norm.

    Raises:
        ConfigError: If it is one, of either Lightning package.
    """
    if SHARDING_STRATEGIES & {kind.__name__ for kind in type(strategy).__mro__}:
        problem = Problem(
            path=automation,
            expected="whole gradients, or DTensors, in every process",
            got=type(strategy).__name__,
            hint="Use ModelParallelStrategy, or disable the automation and use the clipping of the strategy.",
        )
        raise ConfigError([problem])


def refuse_optimizers(optimizers: Iterable[Optimizer], *, scaled: bool, automation: str) -> None:
    """Refuse optimizers whose gradients cannot be added up, or are still scaled, before their step.

    Args:
        optimizers: The optimizers of the fit.
        scaled: Whether a ``GradScaler`` is at work.
        automation: Name of the automation, for the message.

    Raises:
        ConfigError: If there is one.
    """
    for optimizer in optimizers:
        kind = type(optimizer).__name__
        meshes = shardings(parameter for group in optimizer.param_groups for parameter in group["params"])
        if len(meshes) > 1:
            problem = Problem(
                path=automation,
                expected="parameters of one optimizer that are all whole, or all sharded over the same device mesh",
                got=f"{kind} over both kinds" if None in meshes else f"{kind} over {len(meshes)} device meshes",
                hint="Disable the automation, or shard the whole module (fully_shard on the module itself).",
            )
            raise ConfigError([problem])
        if scaled and unscales_by_itself(optimizer):
            problem = Problem(
                path=automation,
                expected="an optimizer whose gradients are unscaled before its step",
                got=f"{kind} that unscales them inside its step (fused=True with a GradScaler)",
                hint="Use fused=False or bf16-mixed precision, or disable the automation.",
            )
            raise ConfigError([problem])


def other_clippings(trainer: Trainer, module: LightningModule) -> list[str]:
    """Who clips after us, as sentences for the user: the Trainer, or a hook of the module's own."""
    found = []
    if trainer.gradient_clip_val:
        found.append(f"the Trainer's gradient_clip_val={trainer.gradient_clip_val} acts after it, on what it left")
    hook = "configure_gradient_clipping"
    owner = next(kind for kind in type(module).__mro__ if hook in vars(kind))
    if owner.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning"):
        found.append(f"the module's {hook} acts after it, on what it left")
    return found


def unclipped(optimizers: Iterable[Optimizer]) -> list[str]:
    """Whose gradients are not clipped, as sentences for the user."""
    return [
        f"{type(optimizer).__name__} compares gradients of several evaluations: they are not clipped, only kept from "
        "the weights where they are not finite"
        for optimizer in optimizers
        if isinstance(optimizer, UNCLIPPED)
    ]
