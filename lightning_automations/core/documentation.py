"""What each setting means, taken from the docstring that declares it, for ``--help`` and ``help()``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from lightning_automations.core.settings import AutomationSettings

__all__ = ["constructor_docstring", "setting_descriptions"]

_ENTRY = re.compile(r"^    (\w+): ")
_INDENT = "    "


def setting_descriptions(settings_class: type[AutomationSettings]) -> dict[str, str]:
    """Each setting's name and what the docstring says of it, in the order of declaration.

    A class's own words stand before those of the class that it extends. Where Python runs without docstrings (``-OO``)
    there is nothing.

    Example:
        >>> setting_descriptions(AutomationSettings)["dry_run"]
        'Decide and record, change nothing.'
    """
    written: dict[str, str] = {}
    for ancestor in reversed(settings_class.__mro__):
        if issubclass(ancestor, AutomationSettings):
            written.update(_arguments(ancestor.__doc__ or ""))
    return {name: written[name] for name in settings_class.types() if name in written}


def constructor_docstring(settings_class: type[AutomationSettings], summary: str) -> str:
    """A docstring in Google's style for what takes every setting by name."""
    lines = [f"{_INDENT}{name}: {text}" for name, text in setting_descriptions(settings_class).items()]
    return "\n".join([summary, "", "Args:", *lines])


def _arguments(docstring: str) -> Mapping[str, str]:
    """The entries of the block ``Args``; one that stands for several names points elsewhere and is left out."""
    texts: dict[str, str] = {}
    name = None
    for line in _block(docstring):
        if not line.startswith(_INDENT * 2):
            entry = _ENTRY.match(line)
            name = entry[1] if entry else None
            text = line[entry.end() :] if entry else ""
        else:
            text = line
        if name is not None:
            texts[name] = f"{texts.get(name, '')} {text.strip()}".strip()
    return texts


def _block(docstring: str) -> list[str]:
    """The lines below ``Args:``, up to the next line that is not indented."""
    lines = inspect.cleandoc(docstring).splitlines()
    if "Args:" not in lines:
        return []
    below = lines[lines.index("Args:") + 1 :]
    end = next((index for index, line in enumerate(below) if not line.startswith(_INDENT)), len(below))
    return below[:end]
