"""The names of the automations."""

import re

import pytest

from lightning_automations.config.names import AUTOMATIONS, BUILT_UNNAMED, SETTINGS_CLASSES


def test_every_name_of_the_contract_is_known() -> None:
    """CamelCase, its snake_case, and the short forms; the four in the order of the documentation."""
    assert {name: settings.automation for name, settings in AUTOMATIONS.items()} == {
        "IntelligentLearningRateScheduler": "IntelligentLearningRateScheduler",
        "intelligent_learning_rate_scheduler": "IntelligentLearningRateScheduler",
        "learning_rate_scheduler": "IntelligentLearningRateScheduler",
        "DynamicBatchSizeOptimizer": "DynamicBatchSizeOptimizer",
        "dynamic_batch_size_optimizer": "DynamicBatchSizeOptimizer",
        "batch_size_optimizer": "DynamicBatchSizeOptimizer",
        "AdaptiveGradientClipping": "AdaptiveGradientClipping",
        "adaptive_gradient_clipping": "AdaptiveGradientClipping",
        "IntelligentEarlyStopping": "IntelligentEarlyStopping",
        "intelligent_early_stopping": "IntelligentEarlyStopping",
        "early_stopping": "IntelligentEarlyStopping",
        "DynamicLossScheduling": "DynamicLossScheduling",
        "dynamic_loss_scheduling": "DynamicLossScheduling",
    }
    assert [settings.automation for settings in SETTINGS_CLASSES] == [
        "IntelligentLearningRateScheduler",
        "DynamicBatchSizeOptimizer",
        "AdaptiveGradientClipping",
        "IntelligentEarlyStopping",
        "DynamicLossScheduling",
    ]
    assert [settings.automation for settings in SETTINGS_CLASSES if settings not in BUILT_UNNAMED] == [
        "DynamicLossScheduling"
    ]


@pytest.mark.parametrize("settings", SETTINGS_CLASSES)
def test_the_class_name_is_a_name(settings: type) -> None:
    """The name that messages and checkpoints use is one that the YAML takes, and so is its snake_case."""
    snake_case = re.sub(r"(?<!^)(?=[A-Z])", "_", settings.automation).lower()  # type: ignore[attr-defined]
    assert AUTOMATIONS[settings.automation] is settings  # type: ignore[attr-defined]
    assert AUTOMATIONS[snake_case] is settings
