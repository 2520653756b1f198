"""The source of a configuration, read once: a file, a mapping or a DictConfig."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_automations.config.sharing import refuse_many_repeated_values
from lightning_automations.config.yaml_tree import YamlTree
from lightning_automations.core.checking import shown
from lightning_automations.core.errors import ConfigError, Problem, nearest

__all__ = ["BYTES_MAX", "Document", "document_of", "read_document"]

BYTES_MAX = 1_048_576
"""The largest file that is read: a training configuration has some thousand bytes, and PyYAML reads 250 kB a second."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A configuration as it was given.

    Args:
        data: The root; a ``DictConfig`` is kept as it is, so that its interpolations can be asked for.
        file: Name of the file, if it came from one.
        tree: What knows the lines of that file.
        problems: What was wrong with the document as a whole.
    """

    data: Mapping[Any, Any]
    file: str | None = None
    tree: YamlTree | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def loose_numbers(self) -> Mapping[str, str]:
        """Numbers of the file that YAML 1.1 takes for texts, as they are written, by their path."""
        return {} if self.tree is None else self.tree.loose_numbers

    def located(self, problem: Problem) -> Problem:
        """The problem with file and line, where they are known."""
        line = self.line(problem.path) if problem.line is None else problem.line
        return replace(problem, file=self.file, line=line)

    def line(self, path: str) -> int | None:
        """The line at which the setting at a dotted path stands."""
        return None if self.tree is None else self.tree.line(path)


def read_document(source: object) -> Document:
    """Read what ``build_callbacks`` was given.

    Args:
        source: The path of a YAML file, a mapping, or a ``DictConfig`` (which is a mapping).

    Raises:
        ConfigError: If it is none of these, cannot be read, is no valid YAML, or has no mapping at its root.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source))
    if not isinstance(source, Mapping):
        raise ConfigError([Problem(path="", expected="a path, a mapping or a DictConfig", got=shown(source))])
    refuse_many_repeated_values(source)
    return Document(data=source)


def document_of(text: str, file: str) -> Document:
    """The same of a text that is, or will be, that of a file.

    Raises:
        ConfigError: If it is no valid YAML, or has no mapping at its root.
    """
    try:
        tree = YamlTree(text)
        if not isinstance(tree.data, Mapping):
            raise ConfigError([*tree.problems, _no_mapping(tree.data)])
        refuse_many_repeated_values(tree.data)
    except ConfigError as error:
        raise ConfigError(replace(problem, file=file) for problem in error.problems) from None
    return Document(data=tree.data, file=file, tree=tree, problems=tuple(tree.problems))


def _read_file(path: Path) -> Document:
    try:
        text = _text(path)
    except ConfigError as error:
        raise ConfigError(replace(problem, file=str(path)) for problem in error.problems) from None
    return document_of(text, str(path))


def _no_mapping(data: object) -> Problem:
    got = "an empty file, or one of comments alone" if data is None else shown(data)
    return Problem(path="", expected="a mapping at the root of the file", got=got)


def _text(path: Path) -> str:
    content = _bytes(path)
    if len(content) > BYTES_MAX:
        got = "a larger file"
        raise ConfigError([Problem(path="", expected=f"a configuration of at most {BYTES_MAX} bytes", got=got)])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        got = f"the byte 0x{content[error.start]:02x}"
        raise ConfigError([Problem(path="", expected="a file in UTF-8", got=got, line=line)]) from None


def _bytes(path: Path) -> bytes:
    hint = None
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        got, hint = "a path where no file is", _similar_file(path)
    except IsADirectoryError:
        got = "a folder"
    except PermissionError:
        got = "one that may not be read (no permission)"
    except (OSError, ValueError) as error:  # a name that is too long; a name with a null character
        got = f"a path that cannot be opened ({error.strerror if isinstance(error, OSError) else error})"
    raise ConfigError([Problem(path="", expected="a YAML file", got=got, hint=hint)])


def _similar_file(path: Path) -> str | None:
    if "\n" in str(path):
        return "A text is taken for the path of a file; pass a mapping to configure without one."
    try:
        return nearest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:  # the folder is not there either
        return None
