"""The names under which the YAML may call an automation, and the settings each name stands for."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_automations.core.batch_size import BatchSizeSettings
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings
from lightning_automations.core.settings import AutomationSettings

__all__ = ["AUTOMATIONS", "BUILT_UNNAMED", "REGISTERED", "SECTION", "SETTINGS_CLASSES", "known_automations"]

SECTION = "training_automations"

_NAMES: Mapping[type[AutomationSettings], tuple[str, ...]] = {
    LearningRateSettings: (
        "IntelligentLearningRateScheduler",
        "intelligent_learning_rate_scheduler",
        "learning_rate_scheduler",
    ),
    BatchSizeSettings: ("DynamicBatchSizeOptimizer", "dynamic_batch_size_optimizer", "batch_size_optimizer"),
    GradientClippingSettings: ("AdaptiveGradientClipping", "adaptive_gradient_clipping"),
    EarlyStoppingSettings: ("IntelligentEarlyStopping", "intelligent_early_stopping", "early_stopping"),
    LossSchedulingSettings: ("DynamicLossScheduling", "dynamic_loss_scheduling"),
}

SETTINGS_CLASSES: tuple[type[AutomationSettings], ...] = tuple(_NAMES)
"""The automations of this package, in the order of the documentation."""
BUILT_UNNAMED = tuple(settings for settings in SETTINGS_CLASSES if settings is not LossSchedulingSettings)
"""Those that a section builds which names none: loss scheduling needs a module that has its weights."""

AUTOMATIONS: Mapping[str, type[AutomationSettings]] = {
    name: settings_class for settings_class, names in _NAMES.items() for name in names
}
"""What the section may call the automations of this package."""

REGISTERED: dict[type[AutomationSettings], type] = {}
"""The settings and callbacks of others' automations, in the order in which ``register_automation`` took them."""


def known_automations() -> dict[str, type[AutomationSettings]]:
    """Every name that the section may call an automation by, those that others have registered included."""
    return {**AUTOMATIONS, **{name: settings for settings in REGISTERED for name in settings.names()}}
