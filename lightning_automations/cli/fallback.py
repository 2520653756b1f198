"""What only torch can say of the settings in a file, asked where a file needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_automations.config.loading import Check
from lightning_automations.core.errors import Problem
from lightning_automations.core.learning_rate_settings import LearningRateSettings
from lightning_automations.core.settings import AutomationSettings

__all__ = ["CHECKS"]


def _problems_of_fallback(settings: Mapping[str, Any], path: str) -> list[Problem]:
    # torch takes seconds to import, and few files need it
    if "fallback" not in settings:
        return []
    from lightning_automations.callbacks.fallback_checks import problems_of_written_fallback

    return problems_of_written_fallback(settings, path)


CHECKS: Mapping[type[AutomationSettings], Check] = {LearningRateSettings: _problems_of_fallback}
"""For ``load_settings`` and ``read_facts``: the schedulers of fallbacks as training would build them."""
