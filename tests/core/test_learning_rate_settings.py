"""What the settings of the learning rate refuse."""

from typing import Any

import pytest

from lightning_automations.core.errors import ConfigError
from lightning_automations.core.learning_rate_settings import LearningRateSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"monitor_loss": False, "monitor_validation": False},
            "monitor_loss: expected true where monitor_validation is false, got false. "
            "Turn one of the two on, or the automation off with enabled: false.",
        ),
        (
            {"fallback": {"scheduler_params": {}}},
            "fallback.scheduler_type: expected the type of the fallback's scheduler, cosine for instance, got nothing.",
        ),
        ({"max_lr_factor": 0.5}, "max_lr_factor: expected a number at least 1 and at most 1000000.0, got 0.5 (float)."),
    ],
)
def test_contradictions_are_said(values: dict[str, Any], message: str) -> None:
    """Each wrong setting has its message."""
    with pytest.raises(ConfigError) as caught:
        LearningRateSettings(**values)
    assert str(caught.value) == f"IntelligentLearningRateScheduler.{message}"
