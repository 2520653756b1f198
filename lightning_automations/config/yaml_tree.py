"""A YAML text as plain Python values that know their lines.

PyYAML's own constructor forgets where a value stood, takes a repeated key silently and reads ``1e-4`` as a text. Here
its parser makes the nodes, and the values are built from them: aliases are shared instead of copied, so that nested
aliases cost no more than the text that holds them.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from lightning_automations.core.errors import ConfigError, Problem

__all__ = ["YamlTree", "joined"]

MERGED_KEYS_MAX = 100_000
"""Keys that ``<<`` may copy in one file."""

_PREFIX = "tag:yaml.org,2002:"
_LOOSE_FLOAT = _PREFIX + "float of YAML 1.2"
_SCALARS = frozenset(_PREFIX + name for name in ("null", "bool", "int", "float", "str", "binary", "timestamp")) | {
    _LOOSE_FLOAT
}
# OmegaConf.save writes the paths of a configuration so; they are read as texts.
_PATHLIB = re.compile(re.escape(_PREFIX + "python/object/apply:pathlib") + r"[\w.]*\Z")
_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+\Z")
_NOT_GUESSED = frozenset({_PREFIX + "timestamp", _PREFIX + "value"})
_FAULTY_SCALAR = (yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What PyYAML raises for a text that does not fit its tag: ``!!int abc``, ``!!bool maybe``, ``!!timestamp soon``."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as OmegaConf reads it: a float needs no dot before its exponent, and no text becomes a date."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's registry, copied so that its own stays as it is
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_GUESSED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


# Behind the resolvers of YAML 1.1: it meets what they take for a text.
_Loader.add_implicit_resolver(_LOOSE_FLOAT, _EXPONENT, list("-+.0123456789"))


class _Member(NamedTuple):
    line: int
    node: yaml.Node


class YamlTree:
    r"""One YAML document.

    Args:
        text: The document.

    Attributes:
        data: What the document holds: mappings, lists and scalars; None for an empty document.
        problems: Repeated keys, tags that are not followed, scalars that do not fit their tag, aliases of themselves;
            each with its line. ``data`` has None in their place.
        loose_numbers: Numbers that YAML 1.1 takes for texts, ``1e-4`` for instance, as they are written, by their path.

    Raises:
        ConfigError: If the text is no YAML at all.

    Example:
        >>> tree = YamlTree("train:\n  total_iter: 4e4")
        >>> tree.data, tree.line("train.total_iter")
        ({'train': {'total_iter': 40000.0}}, 2)
    """

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self.loose_numbers: dict[str, str] = {}
        self._members: dict[yaml.Node, dict[Any, _Member]] = {}
        self._values: dict[yaml.Node, Any] = {}
        self._open: set[yaml.Node] = set()
        self._keys_merged = 0
        try:
            self._loader, self._root = _composed(text)
            self.data = None if self._root is None else self._built(self._root, "")
        except RecursionError:
            raise ConfigError(
                [_problem("", "a document nested less deeply", "one that is nested too deeply")]
            ) from None

    def line(self, path: str) -> int | None:
        """The line of the setting at a dotted path, or of the nearest mapping around it; None for the root.

        Keys may hold dots themselves: the longest key that fits is followed.
        """
        node, line = self._root, None
        while path and node in self._members:
            members = self._members[node]
            fitting = [key for key in members if path == str(key) or path.startswith(f"{key}.")]
            if not fitting:
                break
            key = max(fitting, key=lambda fit: len(str(fit)))
            line, node = members[key]
            path = path[len(str(key)) + 1 :]
        return line

    def _built(self, node: yaml.Node, path: str) -> Any:
        if node in self._open:
            self._report(node, path, "a value that does not hold itself", "an alias of a value around it")
            return None
        if node not in self._values:
            self._open.add(node)
            self._values[node] = self._made(node, path)
            self._open.discard(node)
        return self._values[node]

    def _made(self, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
            return self._sequence(node, path)
        if isinstance(node, yaml.SequenceNode) and _PATHLIB.match(node.tag):
            return "/".join(str(part) for part in self._sequence(node, path))
        if node.tag in _SCALARS:
            return self._scalar(node, path)
        hint = "Tags that build objects are not followed."
        self._report(node, path, "a plain YAML value", f"the tag {_short(node.tag)}", hint=hint)
        return None

    def _scalar(self, node: yaml.Node, path: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag == _LOOSE_FLOAT:
            self.loose_numbers[path] = str(node.value)
            return self._loader.construct_yaml_float(node)
        try:
            return self._loader.construct_object(node, deep=True)
        except _FAULTY_SCALAR:
            got = repr(node.value) if isinstance(node, yaml.ScalarNode) else _kind(node)
            self._report(node, path, f"a value that fits its tag {_short(node.tag)}", got)
            return None

    def _sequence(self, node: yaml.SequenceNode, path: str) -> list[Any]:
        self._members[node] = {index: _Member(_line(item), item) for index, item in enumerate(node.value)}
        return [self._built(item, joined(path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[Any, Any]:
        own: dict[Any, _Member] = {}
        merged: dict[Any, _Member] = {}
        merge_line: int | None = None
        for key_node, value_node in node.value:
            if key_node.tag == _PREFIX + "merge":
                if merge_line is not None:  # PyYAML 6.0.3 lets the last give the value, 6.0.4 the first
                    got, hint = f"it again after line {merge_line}", "Merge several mappings as a list, [*a, *b]."
                    self._report(key_node, joined(path, "<<"), "each key once", got, hint=hint)
                merge_line = _line(key_node)
                merged.update(self._merged(key_node, value_node, path))
                continue
            key = self._built(key_node, path)
            if isinstance(key, (dict, list)):
                self._report(key_node, path, "keys that are texts or numbers", f"{_kind(key_node)} as a key")
                continue
            if key in own:
                name = key_node.value if isinstance(key_node, yaml.ScalarNode) else key
                self._report(key_node, joined(path, name), "each key once", f"it again after line {own[key].line}")
            own[key] = _Member(_line(key_node), value_node)
        members = self._members[node] = {**merged, **own}
        return {key: self._built(member.node, joined(path, key)) for key, member in members.items()}

    def _merged(self, key_node: yaml.Node, node: yaml.Node, path: str) -> dict[Any, _Member]:
        """The keys that ``<<`` brings: of several mappings the first to have a key gives its value."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[Any, _Member] = {}
        for source in sources:
            self._built(source, path)
            if not isinstance(source, yaml.MappingNode):
                self._report(key_node, joined(path, "<<"), "a mapping to merge", _kind(source))
            members = self._members.get(source, {})
            self._keys_merged += len(members)
            if self._keys_merged > MERGED_KEYS_MAX:
                got = _problem(
                    joined(path, "<<"), f"at most {MERGED_KEYS_MAX} merged keys", "more", line=_line(key_node)
                )
                raise ConfigError([got])
            merged = {**members, **merged}
        return merged

    def _report(self, node: yaml.Node, path: str, expected: str, got: str, *, hint: str | None = None) -> None:
        self.problems.append(_problem(path, expected, got, line=_line(node), hint=hint))


def _composed(text: str) -> tuple[_Loader, yaml.Node | None]:
    try:
        loader = _Loader(text)
        return loader, loader.get_single_node()
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two for a character beyond Unicode
        raise ConfigError([_fault(error, text)]) from None


def joined(path: str, key: object) -> str:
    """A dotted path, one level further in."""
    return f"{path}.{key}" if path else str(key)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _short(tag: str) -> str:
    return f"!!{tag[len(_PREFIX) :]}" if tag.startswith(_PREFIX) else tag


def _problem(path: str, expected: str, got: str, *, line: int | None = None, hint: str | None = None) -> Problem:
    return Problem(path=path, expected=expected, got=got, line=line, hint=hint)


def _fault(error: Exception, text: str) -> Problem:
    """What stands in the way of reading the text as YAML."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return _problem("", "valid YAML", f"the character U+{ord(text[error.position]):04X}", line=line)
    if not isinstance(error, yaml.MarkedYAMLError):
        return _problem("", "valid YAML", f"a fault ({error})")
    mark = error.problem_mark or error.context_mark
    what = ": ".join(str(part) for part in (error.context, error.problem) if part)
    hint = "Write spaces in the place of tabs." if "'\\t'" in str(error.problem) else None
    return _problem("", "valid YAML", f"a fault ({what})", line=mark.line + 1 if mark else None, hint=hint)
