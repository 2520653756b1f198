"""The gradients of a loss's terms, measured now and then in the training steps, for the method ``gradnorm``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_automations.callbacks.gradient_limits import SHARDING_STRATEGIES
from lightning_automations.callbacks.weighted_losses import WeightedLosses
from lightning_automations.core.errors import ConfigError, Problem, nearest
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings
from lightning_automations.probes.deferred import DeferredReadings
from lightning_automations.probes.gradient_norm import is_sharded
from lightning_automations.probes.term_gradients import term_gradient_norm

__all__ = ["TermGradients"]


class TermGradients:
    """Measures the norm of each term's gradient by the shared parameters, in one batch of some of the steps.

    In such a batch the mixin ``WeightedLosses`` hands over its terms with their graph, and the norms are taken between
    the forward and the backward pass. They stay on the device. All other steps are as without it.

    Args:
        state: What ``state_dict`` gave; empty: nothing was measured.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._readings: dict[str, DeferredReadings] = {}
        for name, values in state.get("readings", {}).items():
            self._of(name).restore(float(value) for value in values)
        self._measured_step = int(state.get("measured_step", -1))
        self._parameters: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """What must survive a checkpoint."""
        readings = {name: readings.fetch() for name, readings in self._readings.items()}
        return {"readings": readings, "measured_step": self._measured_step}

    def begin(self, trainer: Trainer, module: LightningModule, settings: LossSchedulingSettings) -> None:
        """A fit begins.

        Raises:
            ConfigError: If a name matches no parameter that is trained, or gradients cannot be measured in this fit.
        """
        problems = [*_obstacles(trainer, module, settings), *_unknown_names(module, settings)]
        if problems:
            raise ConfigError(problems)
        self._parameters = [
            parameter
            for name, parameter in module.named_parameters()
            if any(_is_part_of(name, shared) for shared in settings.shared_names)
        ]

    def before_batch(self, module: Any, *, step: int, frequency: int) -> None:
        """Ask for the terms with their graph where a measurement is due: in the first batch of such a step."""
        if step % frequency == 0 and step != self._measured_step:
            self._measured_step = step
            module._term_graphs = {}

    def before_backward(self, trainer: Trainer, module: Any, names: Iterable[str]) -> None:
        """Measure the terms of these names, where they were asked for."""
        graphs: Mapping[str, Tensor] | None = module._term_graphs
        module._term_graphs = None
        if graphs is None:
            return
        parameters = [parameter for parameter in self._parameters if parameter.requires_grad]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        for name in names:
            if name in graphs and parameters:
                term = graphs[name]
                scale = None if scaler is None else scaler.scale(torch.ones((), device=term.device))
                self._of(name).add(term_gradient_norm(term, parameters, scale=scale))

    def after_batch(self, module: Any) -> None:
        """Let go of graphs that no backward pass came for."""
        if getattr(module, "_term_graphs", None) is not None:
            module._term_graphs = None

    def take(self, name: str) -> list[float]:
        """The norms of a term since the last time, oldest first; the only transfer from the device."""
        return self._of(name).take()

    def clear(self) -> None:
        """Forget what was measured."""
        self._readings.clear()

    def _of(self, name: str) -> DeferredReadings:
        return self._readings.setdefault(name, DeferredReadings())


def _is_part_of(parameter: str, shared: str) -> bool:
    return parameter == shared or parameter.startswith(f"{shared}.")


def _obstacles(trainer: Trainer, module: LightningModule, settings: LossSchedulingSettings) -> Iterable[Problem]:
    """Why the terms' gradients cannot be measured in this fit."""
    path, other = f"{settings.automation}.method", "Take another method."
    if not module.automatic_optimization:
        got = "gradnorm in manual optimization, which calls its own backward passes"
        yield Problem(path=path, expected="a method that needs no gradients", got=got, hint=other)
    if not isinstance(module, WeightedLosses):
        got = f"gradnorm for {type(module).__name__}, which is none"
        hint = f"Let its training step return self.weighted(...): the terms are measured there. Or: {other}"
        yield Problem(path=path, expected="a module with the mixin WeightedLosses", got=got, hint=hint)
    sharding = SHARDING_STRATEGIES & {kind.__name__ for kind in type(trainer.strategy).__mro__}
    if sharding or any(is_sharded(parameter) for parameter in module.parameters()):
        got = f"gradnorm with sharded parameters ({type(trainer.strategy).__name__})"
        yield Problem(path=path, expected="whole parameters in every process", got=got, hint=other)


def _unknown_names(module: LightningModule, settings: LossSchedulingSettings) -> Iterable[Problem]:
    """The shared parameters that are none, or are not trained."""
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    parts = sorted({name.rsplit(".", depth)[0] for name in trained for depth in range(name.count(".") + 1)})
    for shared in settings.shared_names:
        if shared not in parts:
            yield Problem(
                path=f"{settings.automation}.shared_parameters",
                expected="a parameter that is trained, or a part of the module that holds one",
                got=repr(shared),
                hint=nearest(shared, parts) or f"The module has {', '.join(parts[:_SHOWN])}.",
            )


_SHOWN = 12
