"""What a migration leads to: a text that is known to hold what it should, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_automations.config.loading import Check, load_settings
from lightning_automations.config.yaml_tree import YamlTree
from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.settings import AutomationSettings

__all__ = ["changed", "checked_text", "refused"]


def changed(data: Mapping[Any, Any] | None, keys: Sequence[str], value: Any) -> dict[Any, Any]:
    """A copy with another value at a path; None is an empty mapping.

    Args:
        data: The whole.
        keys: The path.
        value: What stands there.
    """
    first, *others = keys
    whole = {} if data is None else data
    return {**whole, first: changed(whole[first], others, value) if others else value}


def checked_text(
    text: str,
    expected: Mapping[str, Any],
    source: str,
    *,
    checks: Mapping[type[AutomationSettings], Check] | None = None,
) -> str:
    """The new text, once it is known to hold what it should and nothing else.

    Args:
        text: The new text.
        expected: What it should hold.
        source: The path of the file.
        checks: As for ``load_settings``.

    Raises:
        ConfigError: If it holds something else, or settings that are not valid.
    """
    try:
        tree = YamlTree(text)
        # repr tells 1 from 1.0 and from true, and NaN equals itself
        sound = not tree.problems and repr(tree.data) == repr(expected)
        load_settings(tree.data, checks=checks)
    except ConfigError:  # its lines are those of a text that nobody has seen
        sound = False
    if not sound:
        raise ConfigError([refused("a file to which keys can be added", "one where that changes others", source)])
    return text


def refused(
    expected: str,
    got: str,
    source: str,
    path: str = "",
    line: int | None = None,
    *,
    by_hand: str = "Add the section by hand.",
) -> Problem:
    """Why a file is left as it is.

    Args:
        expected: What could have been changed.
        got: What is there.
        source: The path of the file.
        path: Dotted path of the setting.
        line: Its line.
        by_hand: What the user can do.
    """
    return Problem(
        path=path, expected=expected, got=got, hint=f"Nothing was changed. {by_hand}", file=source, line=line
    )
