"""Whether an automation is declared so that all that is built on its declaration works."""

from __future__ import annotations

import inspect
from types import FunctionType

from lightning_automations.callbacks.surface import AutomationSurface
from lightning_automations.core.settings import AutomationSettings

__all__ = ["refuse_unfit_class"]

_METHODS = (FunctionType, classmethod, staticmethod, property)
_DECLARED_FOR_ALL = ("automation", "ordered", "shares_of_steps", "shares_of_epochs")
_DECLARATION = (
    "a child of AutomationSettings, decorated with @dataclass(frozen=True, kw_only=True), in which every setting has a "
    "type and a default"
)


def refuse_unfit_class(automation: type[AutomationSurface]) -> None:
    """Stop where an automation is defined, with words for what would otherwise fail in a run or not at all.

    Args:
        automation: A child of ``AutomationCallback``.

    Raises:
        TypeError: If it has a constructor, or if its settings class is not what an automation needs.
        ConfigError: If a default is out of the setting's own range.
    """
    callback, settings_class = automation.__name__, automation.settings_class
    if "__init__" in vars(automation):
        raise TypeError(
            f"{callback}.__init__: expected none, for an automation is made from its settings alone; got one. Make "
            "what it needs in load_extra_state, which begins each history, or in begin."
        )
    if not (isinstance(settings_class, type) and issubclass(settings_class, AutomationSettings)):
        raise _unfit(callback, repr(settings_class))
    lost = _written(settings_class) if "__dataclass_fields__" not in vars(settings_class) else []
    if lost:
        raise _unfit(callback, f"{settings_class.__name__} without the decorator, so that {lost[0]} is no setting")
    try:
        settings_class.signature()
    except (TypeError, NameError) as error:
        raise _unfit(callback, f"{settings_class.__name__}, which fails without arguments ({error})") from error


def _written(settings_class: type[AutomationSettings]) -> list[str]:
    """What looks like a setting in the body of a class: names with a type or a value, methods and the rest left out."""
    values = {name for name, value in vars(settings_class).items() if not isinstance(value, _METHODS)}
    names = [*inspect.get_annotations(settings_class), *sorted(values)]
    return [name for name in names if not name.startswith("_") and name not in _DECLARED_FOR_ALL]


def _unfit(callback: str, got: str) -> TypeError:
    return TypeError(f"{callback}.settings_class: expected {_DECLARATION}; got {got}.")
