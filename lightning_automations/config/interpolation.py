"""Reads values out of a configuration and resolves OmegaConf's interpolations, for what is asked for and nothing else.

A configuration holds keys that are not ours: resolvers of Hydra that exist only inside a Hydra run, Python objects,
values that are filled in later. None of them is touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cached_property
from pathlib import PurePath
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, MissingMandatoryValue, OmegaConfBaseException
from omegaconf.nodes import AnyNode

from lightning_automations.config.yaml_tree import joined
from lightning_automations.core.checking import shown
from lightning_automations.core.errors import ConfigError, Problem

__all__ = ["DEPTH_MAX", "VALUES_MAX", "Reader", "keys_of"]

VALUES_MAX = 2_000
"""Values that are read out of a section; interpolations can repeat values as aliases do."""

DEPTH_MAX = 50
"""Levels of mappings that are followed; an interpolation can lead to a mapping around itself."""

_MISSING = "???"
_KEPT = (bool, int, float, str, bytes, PurePath, Enum, type(None))

Path = tuple[Any, ...]


class Reader:
    """Reads values of one configuration.

    Args:
        root: The whole configuration: interpolations are relative to it.

    Attributes:
        problems: Values that could not be resolved, and keys that are no texts.
    """

    def __init__(self, root: Mapping[Any, Any]) -> None:
        self.problems: list[Problem] = []
        self._data = root
        self._values_left = VALUES_MAX

    def member(self, container: Any, key: Any, path: Path) -> tuple[Any, Problem | None]:
        """One member of a mapping or list, resolved, and what stands in the way.

        Args:
            container: The mapping or list.
            key: The key or index.
            path: Where the member stands in the configuration, the key included.
        """
        try:
            value = container[key]
            if not isinstance(container, Container) and _is_open(value):
                value = self._resolved(path)
        except OmegaConfBaseException as error:
            return None, _unresolved(error, dotted(path))
        return value, None

    def plain(self, value: Any, path: Path) -> Any:
        """A resolved value with all that it holds resolved as well, as dicts, lists and scalars.

        A member that cannot be resolved is left out and reported.

        Raises:
            ConfigError: If there is more than a section can mean: it holds itself, or repeats itself many times.
        """
        self._values_left -= 1
        if self._values_left < 0 or len(path) > DEPTH_MAX:
            expected = f"at most {VALUES_MAX} values, {DEPTH_MAX} levels deep"
            raise ConfigError([*self.problems, Problem(path=dotted(path), expected=expected, got="more")])
        if isinstance(value, Mapping):
            return dict(self._members(value, self._text_keys(value, path), path))
        if isinstance(value, (list, tuple)) or OmegaConf.is_config(value):
            return [item for _, item in self._members(value, range(len(value)), path)]
        return value

    def _members(self, container: Any, keys: Any, path: Path) -> Any:
        for key in keys:
            value, problem = self.member(container, key, (*path, key))
            if problem is None:
                yield key, self.plain(value, (*path, key))
            else:
                self.problems.append(problem)

    def _text_keys(self, mapping: Mapping[Any, Any], path: Path) -> list[str]:
        texts = []
        for key in keys_of(mapping):
            if isinstance(key, str):
                texts.append(key)
            else:
                hint = "YAML reads on, off, yes and no as true and false: put the key in quotes."
                self.problems.append(
                    Problem(
                        path=dotted((*path, key)),
                        expected="a text as the key",
                        got=shown(key),
                        hint=hint if isinstance(key, bool) else None,
                    )
                )
        return texts

    def _resolved(self, path: Path) -> Any:
        value: Any = self._root
        for key in path:
            value = value[key]
        return value

    @cached_property
    def _root(self) -> DictConfig:
        root: DictConfig = OmegaConf.create(_held(self._data))
        return root


def keys_of(mapping: Any) -> list[Any]:
    """The keys of a mapping. A ``DictConfig`` says of a key that it cannot resolve that it is not in it."""
    return list(mapping.keys())


def dotted(path: Path) -> str:
    """A path as text."""
    text = ""
    for key in path:
        text = joined(text, key)
    return text


def _is_open(value: Any) -> bool:
    """Whether OmegaConf has something to say about a value: it refers to another, or is still to be filled in."""
    return isinstance(value, str) and ("${" in value or value == _MISSING)


def _unresolved(error: OmegaConfBaseException, path: str) -> Problem:
    if isinstance(error, MissingMandatoryValue):
        return Problem(path=path, expected="a value", got="'???', which stands for a value that is still missing")
    reason = str(error).partition("\n")[0]
    return Problem(path=path, expected="a value", got=f"an interpolation that cannot be resolved ({reason})")


def _held(value: Any) -> Any:
    """A copy that OmegaConf can hold: what it would refuse becomes a missing value, an error if referred to."""
    if isinstance(value, Container):
        return value
    if isinstance(value, Mapping):
        return {key: _held(item) for key, item in value.items() if isinstance(key, (str, int, float))}
    if isinstance(value, (list, tuple)):
        return [_held(item) for item in value]
    return value if isinstance(value, _KEPT) and not _is_malformed(value) else _MISSING


def _is_malformed(value: Any) -> bool:
    if not _is_open(value):
        return False
    try:
        AnyNode(value)
    except GrammarParseError:
        return True
    return False
