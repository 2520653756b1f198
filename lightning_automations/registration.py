"""Automations of your own: how the section, the command line and LightningCLI come to know them.

An automation that this package does not have is a settings class, a brain and a callback, as its own are::

    @dataclass(frozen=True, kw_only=True)
    class CoolDownSettings(AutomationSettings):
        automation: ClassVar[str] = "CoolDown"
        patience: Annotated[int, Ge(1)] = 500


    @register_automation
    class CoolDown(AutomationCallback):
        settings_class = CoolDownSettings

        def make_brain(self, settings): ...

From there on ``CoolDown:`` or ``cool_down:`` in ``training_automations`` builds it. A program registers by importing
the module with the decorator before it reads its configuration; the command takes ``--import MODULE`` for it. A
package that others install names its automations in its own ``pyproject.toml`` and nobody has to import anything::

    [project.entry-points."lightning_automations.automations"]
    cool-down = "my_package.cooling:CoolDown"

CONTRIBUTING.md says what is public for authors, and `notebooks/own_automation.ipynb` teaches it.
"""

from __future__ import annotations

import logging
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from lightning_automations.config.names import REGISTERED, SECTION, known_automations
from lightning_automations.core.checking import checkable
from lightning_automations.core.settings import SECTION_SETTINGS

if TYPE_CHECKING:
    from lightning_automations.callbacks.base import AutomationCallback

__all__ = ["GROUP", "find_installed_automations", "register_automation"]

GROUP = "lightning_automations.automations"
"""The entry points under which an installed package names its automations."""

C = TypeVar("C", bound="AutomationCallback")

log = logging.getLogger(__name__)


def register_automation(callback: type[C]) -> type[C]:
    """Make an automation known, so that a configuration can name it. Use it as a decorator of the class.

    The section takes it under the name of its class and the snake_case of it; it is built behind the automations of
    this package, and only where it is named. ``check`` and ``schema`` know it, ``AutomationsCLI`` has its settings.

    The same class once more changes nothing. A class of the same name from the same place (a notebook's cell run
    again, a module that is reloaded) takes the place of the earlier one.

    Args:
        callback: A child of ``AutomationCallback`` with ``settings_class`` and ``make_brain``; the class attribute
            ``automation`` of its settings is the name of the class.

    Returns:
        The class as it is.

    Raises:
        TypeError: If the class is no automation, its settings belong to another, or one of them has a type that
            cannot be checked: bool, int, float, str, None, Literal, ``Annotated`` with bounds, unions of these,
            ``tuple[X, ...]`` and mappings can.
        ValueError: If another automation, or a setting of the section, has one of its names.

    Example:
        >>> from lightning_automations import DynamicLossScheduling
        >>> register_automation(DynamicLossScheduling)
        Traceback (most recent call last):
        ...
        ValueError: DynamicLossScheduling: expected a name that is free, got 'DynamicLossScheduling', ...
    """
    _refuse_unfit(callback)
    settings = callback.settings_class
    known = known_automations()
    for name in settings.names():
        _refuse_taken(name, callback)
    earlier = known.get(settings.automation)
    if earlier is not None and earlier is not settings:
        del REGISTERED[earlier]
    REGISTERED[settings] = callback
    return callback


@cache
def find_installed_automations() -> None:
    """Register what installed packages offer, once in a process; what cannot be used is told and left out."""
    for entry_point in entry_points(group=GROUP):
        _register_installed(entry_point)


def _refuse_unfit(callback: Any) -> None:
    # Light as long as no automation is there: the command line asks for what is installed before torch is loaded.
    from lightning_automations.callbacks.base import AutomationCallback

    if not (isinstance(callback, type) and issubclass(callback, AutomationCallback)):
        raise TypeError(f"register_automation: expected a child of AutomationCallback, got {callback!r}.")
    settings = callback.settings_class
    if settings.automation != callback.__name__:
        raise TypeError(
            f"{callback.__name__}: expected settings of its own with automation = {callback.__name__!r}, which is its "
            f"name in the section, the journal and checkpoints; got {settings.__name__} with {settings.automation!r}."
        )
    for name, hint in settings.types().items():
        if not checkable(hint):
            raise TypeError(
                f"{settings.__name__}.{name}: expected a type that a YAML file can hold (bool, int, float, str, None, "
                f"Literal, Annotated with Ge, Gt, Le or Lt, unions of these, tuple[X, ...], a mapping), got {hint!r}. "
                "Declare it as one of these, a name for example, and turn it into what the callback needs there."
            )
    if callback.make_brain is AutomationCallback.make_brain:
        raise TypeError(f"{callback.__name__}: expected a method make_brain(settings), got a class without.")


def _refuse_taken(name: str, callback: type) -> None:
    known = known_automations()
    if name in SECTION_SETTINGS:
        holder = f"a setting of {SECTION}"
    elif name not in known:
        return
    elif known[name] not in REGISTERED:
        holder = "an automation of this package"
    else:
        other = REGISTERED[known[name]]
        if _place(other) == _place(callback):
            return
        holder = f"an automation of {other.__module__}"
    raise ValueError(
        f"{callback.__name__}: expected a name that is free, got {name!r}, {holder}. Rename the class, and automation "
        "in its settings."
    )


def _place(callback: type) -> tuple[str, str]:
    """Where a class is written: the same for a program that is run and imported, and for a cell that is run again."""
    module = sys.modules.get(callback.__module__)
    return getattr(module, "__file__", None) or callback.__module__, callback.__qualname__


def _register_installed(entry_point: EntryPoint) -> None:
    try:
        register_automation(entry_point.load())
    except Exception as error:  # noqa: BLE001 - a package of someone else fails in any way, and no run needs it
        _tell_unusable(entry_point, error)


def _tell_unusable(entry_point: EntryPoint, error: Exception) -> None:
    package = entry_point.dist.name if entry_point.dist is not None else "an installed package"
    log.warning(
        "The automation %r of %s (%s) is left out: %s: %s. Everything else works; mend or uninstall %s.",
        entry_point.name,
        package,
        entry_point.value,
        type(error).__name__,
        str(error).rstrip("."),
        package,
    )
