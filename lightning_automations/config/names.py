"""The names under which the YAML may call an automation, and the settings each name stands for."""

from __future__ import annotations

from collections.abc import Mapping

from lightning_automations.core.batch_size import BatchSizeSettings
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.settings import AutomationSettings

__all__ = ["AUTOMATIONS", "NOT_IN_THIS_VERSION", "SECTION", "SETTINGS_CLASSES"]

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
}

SETTINGS_CLASSES: tuple[type[AutomationSettings], ...] = tuple(_NAMES)
"""The automations that an empty section builds."""

AUTOMATIONS: Mapping[str, type[AutomationSettings]] = {
    name: settings_class for settings_class, names in _NAMES.items() for name in names
}

NOT_IN_THIS_VERSION = frozenset({"DynamicLossScheduling", "dynamic_loss_scheduling"})
