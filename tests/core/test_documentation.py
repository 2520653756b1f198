"""Every setting is described where it is declared, and found there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from lightning_automations.config.names import SETTINGS_CLASSES
from lightning_automations.core.documentation import constructor_docstring, setting_descriptions
from lightning_automations.core.settings import AutomationSettings


@dataclass(frozen=True, kw_only=True)
class _Described(AutomationSettings):
    """Settings of a test.

    Args:
        speed: How fast it goes,
            in steps.
        enabled: Whether the test is used.
        dry_run, journal: As elsewhere.
            And on.

    Raises:
        ConfigError: Never.
    """

    automation: ClassVar[str] = "Described"

    speed: int = 1


@dataclass(frozen=True, kw_only=True)
class _Undescribed(AutomationSettings):
    """Says nothing of its setting."""

    automation: ClassVar[str] = "Undescribed"

    speed: int = 1


@pytest.mark.parametrize("settings_class", SETTINGS_CLASSES)
def test_every_setting_of_every_automation_is_described(settings_class: type[AutomationSettings]) -> None:
    """``--help`` has a sentence for each."""
    assert list(setting_descriptions(settings_class)) == list(settings_class.types())


def test_own_words_stand_before_inherited_ones() -> None:
    """A line that goes on belongs to its entry, and one that points elsewhere leaves the inherited words."""
    found = setting_descriptions(_Described)
    assert found["speed"] == "How fast it goes, in steps."
    assert found["enabled"] == "Whether the test is used."
    assert found["dry_run"] == "Decide and record, change nothing."


def test_what_is_not_described_is_left_out() -> None:
    """No description is made up, and no other setting loses its own."""
    found = setting_descriptions(_Undescribed)
    assert "speed" not in found
    assert found["enabled"] == setting_descriptions(AutomationSettings)["enabled"]


def test_without_docstrings_nothing_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python may run without them."""
    monkeypatch.setattr(AutomationSettings, "__doc__", None)
    assert setting_descriptions(AutomationSettings) == {}


def test_a_constructor_describes_its_arguments() -> None:
    """In the style that editors and jsonargparse read."""
    text = constructor_docstring(_Described, "Takes settings.")
    assert text.startswith("Takes settings.\n\nArgs:\n    enabled: Whether the test is used.\n")
    assert text.endswith("    speed: How fast it goes, in steps.")
