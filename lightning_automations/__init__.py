"""Lightning callbacks that adapt learning rate, batch, clipping, stopping and loss weights while a run trains.

The names below are loaded when they are first used, so that `import lightning_automations.core` loads neither torch
nor Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_automations.callbacks.base import AutomationCallback
    from lightning_automations.callbacks.batch_size import DynamicBatchSizeOptimizer
    from lightning_automations.callbacks.early_stopping import IntelligentEarlyStopping
    from lightning_automations.callbacks.gradient_clipping import AdaptiveGradientClipping
    from lightning_automations.callbacks.learning_rate import IntelligentLearningRateScheduler
    from lightning_automations.callbacks.loss_scheduling import DynamicLossScheduling
    from lightning_automations.callbacks.ranks import Across
    from lightning_automations.callbacks.weighted_losses import WeightedLosses
    from lightning_automations.cli.lightning_cli import AutomationsCLI, AutomationsCLIMixin
    from lightning_automations.core.decision import Adjustment
    from lightning_automations.core.errors import ConfigError
    from lightning_automations.core.settings import AutomationSettings
    from lightning_automations.factory import build_callbacks
    from lightning_automations.registration import register_automation

    __version__: str

__all__ = [
    "Across",
    "AdaptiveGradientClipping",
    "Adjustment",
    "AutomationCallback",
    "AutomationSettings",
    "AutomationsCLI",
    "AutomationsCLIMixin",
    "ConfigError",
    "DynamicBatchSizeOptimizer",
    "DynamicLossScheduling",
    "IntelligentEarlyStopping",
    "IntelligentLearningRateScheduler",
    "WeightedLosses",
    "build_callbacks",
    "register_automation",
]

_HOMES = {
    "Across": "callbacks.ranks",
    "AdaptiveGradientClipping": "callbacks.gradient_clipping",
    "Adjustment": "core.decision",
    "AutomationCallback": "callbacks.base",
    "AutomationSettings": "core.settings",
    "AutomationsCLI": "cli.lightning_cli",
    "AutomationsCLIMixin": "cli.lightning_cli",
    "ConfigError": "core.errors",
    "DynamicBatchSizeOptimizer": "callbacks.batch_size",
    "DynamicLossScheduling": "callbacks.loss_scheduling",
    "IntelligentEarlyStopping": "callbacks.early_stopping",
    "IntelligentLearningRateScheduler": "callbacks.learning_rate",
    "WeightedLosses": "callbacks.weighted_losses",
    "build_callbacks": "factory",
    "register_automation": "registration",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("lightning-automations")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
