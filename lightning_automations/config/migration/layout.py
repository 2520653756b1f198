"""Where every value of a YAML text stands, to the character.

The text is edited at these places instead of being written anew from its values. A writer of YAML, ruamel.yaml
included, changes what it was not asked to change: indentation of lists, line ends, blank lines, long lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import yaml

__all__ = ["Span", "read_layout"]


@dataclass(kw_only=True)
class Span:
    """A value and its place. All places are counted in characters from the start of the text.

    Args:
        start: Where the value starts, its tag and anchor included.
        end: Behind its last character; comments and blank lines behind it do not count.
        key_start: Where its key starts; None for an item of a list and for the root.
        kind: ``scalar``, ``mapping``, ``list`` or ``alias``.
        in_braces: Whether it is a mapping in braces or a list in brackets.
        members: What a mapping or list holds, under keys as they are written, or under indexes.
    """

    start: int
    end: int
    key_start: int | None
    kind: str
    in_braces: bool = False
    members: dict[str | int, Span] = field(default_factory=dict)

    def at(self, *keys: str | int) -> Span | None:
        """The value at a path; None where the text has none there (an alias or ``<<`` may still bring it)."""
        span: Span | None = self
        for key in keys:
            span = None if span is None else span.members.get(key)
        return span

    @property
    def is_open_mapping(self) -> bool:
        """Whether keys can be added as lines of their own."""
        return self.kind == "mapping" and not self.in_braces and bool(self.members)


def read_layout(text: str) -> Span:
    """The layout of the one document in a text.

    Args:
        text: A document that ``YamlTree`` has read without a fault, without a byte order mark.

    Example:
        >>> text = "train: {lr: 1}  # small"
        >>> span = read_layout(text).at("train", "lr")
        >>> text[span.start : span.end]
        '1'
    """
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    # the first two events are the starts of the stream and of the document
    return _span(next(islice(events, 2, None)), events, None)


def _span(event: Any, events: Iterator[Any], key_start: int | None) -> Span:
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, yaml.AliasEvent):
        return Span(start=start, end=end, key_start=key_start, kind="alias")
    if isinstance(event, yaml.ScalarEvent):
        return Span(start=start, end=end, key_start=key_start, kind="scalar")
    is_mapping = isinstance(event, yaml.MappingStartEvent)
    kind = "mapping" if is_mapping else "list"
    span = Span(start=start, end=end, key_start=key_start, kind=kind, in_braces=bool(event.flow_style))
    closing = _read_mapping(span, events) if is_mapping else _read_list(span, events)
    # A block ends where the next thing begins, behind comments that are not its own; a brace ends where it stands.
    if span.in_braces:
        span.end = closing.end_mark.index
    else:
        span.end = max(member.end for member in span.members.values())
    return span


def _read_mapping(span: Span, events: Iterator[Any]) -> Any:
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _span(event, events, None)
        name = event.value if isinstance(event, yaml.ScalarEvent) else f"a key at {key.start}"
        span.members[name] = _span(next(events), events, key.start)
    return event


def _read_list(span: Span, events: Iterator[Any]) -> Any:
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        span.members[len(span.members)] = _span(event, events, None)
    return event
