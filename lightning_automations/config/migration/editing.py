"""Changes of a YAML text at known places, each of which leaves all other characters alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_automations.config.migration.layout import Span

__all__ = ["Edit", "added_lines", "added_members", "applied", "replaced"]

_NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One change.

    Args:
        start: First character that is replaced.
        end: Behind the last one; equal to ``start`` for an insertion.
        text: What stands there afterwards.
    """

    start: int
    end: int
    text: str


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text after all changes, which must not overlap.

    Example:
        >>> applied("a: 1", [Edit(start=3, end=4, text="2")])
        'a: 2'
    """
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def replaced(span: Span, value: str) -> Edit:
    """Another value in the same place."""
    return Edit(start=span.start, end=span.end, text=value)


def added_lines(text: str, mapping: Span, lines: Sequence[str]) -> Edit:
    """New lines at the end of a block mapping, at the depth of its keys.

    Args:
        text: The whole text.
        mapping: A mapping with ``is_open_mapping``.
        lines: What to write, without indentation and line ends.
    """
    first = min(member.key_start or 0 for member in mapping.members.values())
    line_end = _line_end_of(text)
    place = _next_line(text, mapping.end)
    padding = _indentation(text, first)
    written = line_end.join(padding + line if line else "" for line in lines)
    written = written + line_end if text[place - 1] == "\n" else line_end + written
    return Edit(start=place, end=place, text=written)


def added_members(text: str, span: Span, members: Sequence[str]) -> Edit | None:
    """More members at the end of a mapping of any form, or in the place of nothing; None where neither is there.

    Args:
        text: The whole text.
        span: Where the mapping stands, or null.
        members: Key and value of each, as YAML.
    """
    if span.is_open_mapping:
        return added_lines(text, span, members)
    added = ", ".join(members)
    if span.kind == "mapping":
        ends = [other.end for other in span.members.values()]
        place = max(ends, default=span.end - 1)
        return Edit(start=place, end=place, text=f", {added}" if ends else added)
    if span.kind == "scalar" and text[span.start : span.end] in _NULLS:
        before = "" if text[span.start - 1].isspace() else " "
        return Edit(start=span.start, end=span.end, text=f"{before}{{{added}}}")
    return None


def _line_end_of(text: str) -> str:
    """The line end that the text uses first."""
    end = text.find("\n")
    return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"


def _next_line(text: str, place: int) -> int:
    """Where the next line starts; a block scalar ends there already."""
    if text[place - 1] == "\n":
        return place
    end = text.find("\n", place)
    return len(text) if end < 0 else end + 1


def _indentation(text: str, place: int) -> str:
    """The spaces that the line of a key starts with; before the key there may also be a question mark."""
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line[: len(line) - len(line.lstrip(" "))]
