"""An automation that is not one of ours, written with public names alone; `notebooks/own_automation.ipynb` teaches it.

Every rule of the contract is tested on it (`tests/registry.py`), and a test holds the notebook to these lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt
from lightning.pytorch import LightningModule, Trainer
from typing_extensions import TypedDict

from lightning_automations import (
    Across,
    Adjustment,
    AutomationCallback,
    AutomationSettings,
    register_automation,
)


class WeightDecayFallback(TypedDict, total=False):
    """What holds once the automation has retired; not written: the factor stays as it is."""

    factor: Annotated[float, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class WeightDecaySettings(AutomationSettings):
    """Settings of ``AdaptiveWeightDecay``.

    Args:
        monitor_metric: A logged validation loss, lower is better.
        tolerance: How far the loss may rise above its best, as a share of it, 0 or more.
        patience: Validations in a row with a loss above that, 1 or more, before the weight decay is raised.
        step_factor: What the weight decay is multiplied by then, above 1.
        max_factor: Largest factor on top of the optimizer's own weight decay, at least ``step_factor``.
        fallback: ``factor``, which holds once the automation has retired; not written, the factor stays.
    """

    automation: ClassVar[str] = "AdaptiveWeightDecay"
    ordered: ClassVar[tuple[tuple[str, str], ...]] = (("step_factor", "max_factor"),)

    monitor_metric: str = "val/loss"
    tolerance: Annotated[float, Ge(0)] = 0.02
    patience: Annotated[int, Ge(1)] = 3
    step_factor: Annotated[float, Gt(1)] = 2.0
    max_factor: Annotated[float, Gt(1)] = 1000.0
    fallback: WeightDecayFallback = field(default_factory=WeightDecayFallback)  # type: ignore[assignment]


class WeightDecayBrain:
    """Raises the factor when the validation loss stays above its best: the network learns by heart."""

    def __init__(self, settings: WeightDecaySettings) -> None:
        self.settings = settings
        self.factor = 1.0
        self.best = math.inf
        self.waited = 0

    def observe(self, *, step: int, epoch: int, loss: float) -> Adjustment | None:
        """One validation: its loss, NaN where there is none."""
        limit = self.best + self.settings.tolerance * abs(self.best) if math.isfinite(self.best) else math.inf
        self.best = min(self.best, loss) if math.isfinite(loss) else self.best
        self.waited = self.waited + 1 if loss > limit else 0
        if self.waited < self.settings.patience or self.factor >= self.settings.max_factor:
            return None
        old, self.factor = self.factor, min(self.factor * self.settings.step_factor, self.settings.max_factor)
        self.waited = 0
        return Adjustment(
            step=step,
            epoch=epoch,
            automation=self.settings.automation,
            parameter="factor",
            old=old,
            new=self.factor,
            reason="validation_loss_stays_above_its_best",
            evidence={"loss": loss, "best": self.best},
        )

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.factor, self.best = float(state["factor"]), float(state["best"])
        self.waited = int(state["waited"])


@register_automation
class AdaptiveWeightDecay(AutomationCallback):
    """Raises the weight decay of a network that overfits: the optimizer's own decay times a factor."""

    settings_class = WeightDecaySettings
    across: ClassVar[Mapping[str, Across]] = {"loss": Across.MEAN}

    def make_brain(self, settings: Any) -> WeightDecayBrain:
        return WeightDecayBrain(settings)

    def begin(self, trainer: Trainer, pl_module: LightningModule) -> None:
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self.given = self.given or [float(group.get("weight_decay", 0.0)) for group in groups]
        if not any(self.given):
            self.note(trainer, "stays out of this run: the optimizer has no weight decay that a factor could raise")
        elif not self.settings.dry_run:
            self.write(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if any(self.given) and not trainer.sanity_checking:
            self.decision_point(trainer, pl_module)

    def read(self, trainer: Trainer, pl_module: LightningModule) -> Mapping[str, float]:
        return {"loss": float(trainer.callback_metrics[self.settings.monitor_metric])}

    def decide(self, trainer: Trainer, pl_module: LightningModule, readings: Mapping[str, float]) -> None:
        adjustment = self.brain.observe(step=trainer.global_step, epoch=trainer.current_epoch, loss=readings["loss"])
        if adjustment is not None:
            self.adjust(trainer, adjustment, lambda: self.write(trainer))

    def apply_fallback(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.brain.factor = self.settings.fallback.get("factor", self.brain.factor)
        self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, given in zip(groups, self.given, strict=True):
            if given:
                group["weight_decay"] = given * self.brain.factor

    def values(self) -> Mapping[str, float]:
        return {"factor": self.brain.factor}

    def extra_state(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        self.given = list(state.get("given", []))
