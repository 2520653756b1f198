"""Checks a value against an annotated type and says what was expected.

The types are those that settings use: bool, int, float, str, None, Any, Literal, unions, tuples of one type, mappings,
TypedDict, and ``Annotated`` with the bounds of ``annotated_types``. pydantic would do it too, but a brain's settings
must be importable in milliseconds and without it.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import is_typeddict

from lightning_automations.core.errors import Problem, nearest

__all__ = ["checkable", "checked", "expectation", "shown"]

_BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}


def checked(value: Any, hint: Any, *, path: str) -> tuple[Any, list[Problem]]:
    """A value fitted to its type, and what is wrong with it.

    A whole number is taken for a float, and a float without fraction for a whole number (YAML reads ``2e3`` as one);
    a truth value is never taken for a number. NaN and infinity are floats: bounds keep them out of settings.

    Args:
        value: What was given.
        hint: The annotated type.
        path: Dotted path of the setting, for the message.

    Returns:
        The value as the type wants it (a mapping copied), and the problems, empty when it is sound.
    """
    if is_typeddict(hint):
        return _checked_mapping(value, hint, path)
    values = _hint_of_values(hint)
    if values is not None and isinstance(value, Mapping):
        return _checked_values(value, values, path)
    for option in _options(hint):
        fitted, sound = _fitted(value, option)
        if sound:
            return fitted, []
    return value, _problems(value, hint, path)


def checkable(hint: Any) -> bool:
    """Whether values can be checked against a type: it is one of those that settings use.

    >>> checkable(tuple[float, ...] | None), checkable(list[float]), checkable(Mapping[str, range])
    (True, False, False)
    """
    if is_typeddict(hint):
        return all(checkable(item) for item in get_type_hints(hint, include_extras=True).values())
    values = _hint_of_values(hint)
    if values is not None and not checkable(values):
        return False
    return all(_checkable(option) for option in _options(hint))


def _checkable(hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return checkable(arguments[0]) and all(type(mark) in _BOUNDS for mark in arguments[1:])
    if origin is Literal:
        return all(type(choice) in _NAMES for choice in arguments)
    if origin is tuple:
        return checkable(arguments[0]) and arguments[1:] == (Ellipsis,)
    if origin is not None:
        return isinstance(origin, type) and issubclass(origin, Mapping)
    return hint in (Any, Mapping, dict, *_NAMES)


def expectation(hint: Any) -> str:
    """What a type asks for, in words.

    >>> expectation(Annotated[float, Gt(0), Le(1)])
    'a number above 0 and at most 1'
    """
    return " or ".join(_expectation(option) for option in _options(hint))


def _problems(value: Any, hint: Any, path: str) -> list[Problem]:
    """What is wrong with a value that fits none of the options: in a list, each item that is wrong."""
    for option in _options(hint):
        if get_origin(option) is tuple and isinstance(value, (list, tuple)):
            item_hint = get_args(option)[0]
            found = [checked(item, item_hint, path=f"{path}.{index}")[1] for index, item in enumerate(value)]
            return [problem for problems in found for problem in problems]
    return [Problem(path=path, expected=expectation(hint), got=shown(value), hint=_nearest_choice(value, hint))]


def _nearest_choice(value: Any, hint: Any) -> str | None:
    choices = [choice for option in _options(hint) if get_origin(option) is Literal for choice in get_args(option)]
    texts = [choice for choice in choices if isinstance(choice, str)]
    return nearest(value, texts) if isinstance(value, str) else None


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _expectation(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Annotated:
        base, *marks = get_args(hint)
        return f"{_expectation(base)} {' and '.join(_bound(mark) for mark in marks)}"
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(hint))
    if origin is tuple:
        return f"a list, each of it {_expectation(get_args(hint)[0])}"
    return _NAMES.get(hint, "a mapping")


def _bound(mark: Any) -> str:
    words, name = _BOUNDS[type(mark)]
    limit = getattr(mark, name)
    return "finite" if limit == math.inf else f"{words} {limit}"


def _fitted(value: Any, hint: Any) -> tuple[Any, bool]:
    """The value as the type wants it, and whether it fits."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, *marks = get_args(hint)
        fitted, sound = _fitted(value, base)
        return fitted, sound and all(_within(fitted, mark) for mark in marks)
    if origin is Literal:
        return value, any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if origin is tuple:
        return _fitted_tuple(value, get_args(hint)[0])
    if origin is not None and issubclass(origin, Mapping):
        return (dict(value), True) if isinstance(value, Mapping) else (value, False)
    return _fitted_scalar(value, hint)


def _fitted_scalar(value: Any, hint: Any) -> tuple[Any, bool]:
    if hint is Any:
        return value, True
    if isinstance(value, bool):
        return value, hint is bool
    if hint is float and isinstance(value, int):
        # A whole number beyond the largest float would overflow on conversion.
        return (float(value), True) if abs(value) < 1e300 else (value, False)
    if hint is int and isinstance(value, float):
        return (int(value), True) if value.is_integer() else (value, False)
    return value, isinstance(value, hint)


def _fitted_tuple(value: Any, hint: Any) -> tuple[Any, bool]:
    if not isinstance(value, (list, tuple)):
        return value, False
    items = [_fitted(item, hint) for item in value]
    return tuple(item for item, _ in items), all(sound for _, sound in items)


def _within(value: Any, mark: Any) -> bool:
    if isinstance(mark, Ge):
        return bool(value >= mark.ge)
    if isinstance(mark, Gt):
        return bool(value > mark.gt)
    if isinstance(mark, Le):
        return bool(value <= mark.le)
    return bool(value < mark.lt)


def _hint_of_values(hint: Any) -> Any:
    """The type of a mapping's values; None where it says nothing about them, or is no mapping."""
    origin = get_origin(hint)
    if not isinstance(origin, type) or not issubclass(origin, Mapping):
        return None
    _, values = get_args(hint)
    return None if values is Any else values


def _checked_values(value: Mapping[Any, Any], hint: Any, path: str) -> tuple[Any, list[Problem]]:
    checked_items = {key: checked(item, hint, path=f"{path}.{key}") for key, item in value.items()}
    problems = [problem for _, found in checked_items.values() for problem in found]
    return {key: fitted for key, (fitted, _) in checked_items.items()}, problems


def _checked_mapping(value: Any, hint: Any, path: str) -> tuple[Any, list[Problem]]:
    if not isinstance(value, Mapping):
        return value, [Problem(path=path, expected="a mapping", got=shown(value))]
    hints = get_type_hints(hint, include_extras=True)
    fitted: dict[Any, Any] = {}
    problems: list[Problem] = []
    for key, item in value.items():
        if key in hints:
            fitted[key], found = checked(item, hints[key], path=f"{path}.{key}")
        else:
            known = ", ".join(hints)
            advice = nearest(str(key), list(hints)) or f"Known names: {known}."
            found = [Problem(path=f"{path}.{key}", expected=f"one of {known}", got=repr(key), hint=advice)]
        problems += found
    return fitted, problems


def shown(value: object) -> str:
    """A value and its type, as messages show it: the type tells ``1`` from ``'1'``.

    >>> shown("1"), shown(None)
    ("'1' (str)", 'null')
    """
    text = "null" if value is None else repr(value)
    kind = "" if value is None else f" ({type(value).__name__})"
    return f"{text if len(text) <= 80 else text[:77] + '...'}{kind}"
