"""Settings that could not work are refused where the automation is defined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pytest
from annotated_types import Gt

from lightning_automations import AutomationCallback, AutomationSettings, ConfigError
from tests.own_automation import WeightDecayBrain

BEGINS = (
    "Own.settings_class: expected a child of AutomationSettings, decorated with @dataclass(frozen=True, kw_only=True), "
    "in which every setting has a type and a default; got "
)


def _define(settings: Any) -> type[AutomationCallback]:
    parts = {"settings_class": settings, "make_brain": lambda self, settings: WeightDecayBrain(settings)}
    return type("Own", (AutomationCallback,), parts)


class _Annotated(AutomationSettings):
    automation: ClassVar[str] = "Own"
    patience: int = 3


class _Valued(AutomationSettings):
    max_adjustments = 3


class _NamedAnew(AutomationSettings):
    automation = "Own"

    @property
    def half(self) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class _Demanding(AutomationSettings):
    patience: int


@dataclass(frozen=True, kw_only=True)
class _Odd(AutomationSettings):
    sizes: list[int] = ()  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class _Unknown(AutomationSettings):
    size: Nowhere = 3  # type: ignore[name-defined]  # noqa: F821 - as where an import was forgotten


@dataclass(frozen=True, kw_only=True)
class _OutOfRange(AutomationSettings):
    automation: ClassVar[str] = "Own"
    rate: Annotated[float, Gt(0)] = 0.0


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        (None, "None."),
        (int, "<class 'int'>."),
        (_Annotated, "_Annotated without the decorator, so that patience is no setting."),
        (_Valued, "_Valued without the decorator, so that max_adjustments is no setting."),
        (_Demanding, "_Demanding, which fails without arguments ("),
        (_Odd, "_Odd, which fails without arguments ("),
        (_Unknown, "_Unknown, which fails without arguments (name 'Nowhere' is not defined)."),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_unfit_settings_are_refused_with_what_was_expected(settings: Any, got: str) -> None:
    """At the line that defines the automation, not in the run of someone who uses it."""
    with pytest.raises(TypeError) as caught:
        _define(settings)
    assert str(caught.value).startswith(BEGINS + got)


def test_a_default_out_of_its_range_is_told_as_any_value() -> None:
    """In the words of every other message."""
    with pytest.raises(ConfigError, match=r"^Own\.rate: expected a number above 0, got 0\.0"):
        _define(_OutOfRange)


def test_settings_that_only_get_another_name_need_no_decorator() -> None:
    """Nothing is lost then."""
    assert _define(_NamedAnew)().name == "Own"


def test_settings_that_can_be_changed_are_refused_by_python() -> None:
    """A dataclass that is not frozen cannot have a frozen parent."""
    with pytest.raises(TypeError, match="cannot inherit non-frozen dataclass from a frozen one"):

        @dataclass(kw_only=True)
        class _Changeable(AutomationSettings):
            patience: int = 3


def test_a_constructor_of_its_own_is_refused() -> None:
    """It would be replaced by the one that takes the settings, and nobody would be told."""
    with pytest.raises(TypeError, match=r"Own\.__init__: expected none, for an automation is made from its settings"):
        type("Own", (AutomationCallback,), {"__init__": lambda self: None})
