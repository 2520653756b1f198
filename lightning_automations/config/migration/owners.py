"""What else in a file does the work of an automation, and what to write in its place."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_automations.config.analysis.recipe import read_clip, read_switch
from lightning_automations.config.analysis.values import Values

__all__ = ["Owner", "read_owners"]

_MEMORY = "auto_vram_management"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A setting that turns something off which an automation does now. The key stays: many a program needs it.

    Args:
        keys: Path of the setting.
        value: What turns it off: false or None.
        line: Line of the setting, counted from 1; None where it has none of its own.
    """

    keys: tuple[str, ...]
    value: bool | None
    line: int | None


def read_owners(values: Values) -> list[Owner]:
    """The clip value, and the older choice of a batch size where it is on.

    A clip value of true becomes false, a number becomes null: a program may compare it with one.
    """
    owners = []
    clip = read_clip(values, ())
    if clip is not None:
        off = False if clip.value is True else None
        owners.append(Owner(keys=tuple(clip.path.split(".")), value=off, line=clip.line))
    for place in ((_MEMORY,), ("train", _MEMORY)):
        memory = read_switch(values, place)
        if memory is not None:
            keys = place if values.at(*place) is True else (*place, "enabled")
            owners.append(Owner(keys=keys, value=False, line=memory.line))
    return owners
