"""The directive ``measured``: quotes rows of a table of benchmarks/RESULTS.md, so that no figure is written twice.

The argument is the way to the table through the headings (``Clipping > Finite faults, adamw``), the option ``rows`` the
first cells of the rows to show, separated by semicolons (all, where it is missing), ``columns`` the heads of columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["RESULTS", "MeasuredDirective", "quoted", "setup"]

RESULTS = Path(__file__).parents[2] / "benchmarks" / "RESULTS.md"


def quoted(page: str, way: Sequence[str], *, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> str:
    r"""A part of the first table under a heading, in Markdown.

    Args:
        page: The text that it stands in.
        way: Headings, the outer one first, as they begin.
        rows: First cells, emphasis left out; none: all rows.
        columns: Heads of columns beside the first one; none: all of them.

    Raises:
        LookupError: If a heading, a row or a column is not there.

    Example:
        >>> print(quoted("# A\n## B\n| m | x | y |\n|---|---|---|\n| p | 1 | 2 |\n| q | 3 | 4 |", ["A", "B"],
        ...              rows=["q"], columns=["y"]))
        | m | y |
        |---|---|
        | q | 4 |
    """
    head, line, *body = _table(page, way)
    named = {_plain(row[0]): row for row in body}
    kept = [_found(named, name) for name in rows] if rows else body
    places = {_plain(cell): index for index, cell in enumerate(head)}
    shown = [0, *(_found(places, name) for name in columns)] if columns else range(len(head))
    return "\n".join(_line([row[index] for index in shown]) for row in (head, line, *kept))


def _table(page: str, way: Sequence[str]) -> list[list[str]]:
    lines = iter(page.splitlines())
    for heading in way:
        if not any(line.startswith("#") and line.lstrip("# ").startswith(heading) for line in lines):
            raise LookupError(f"no heading {heading!r}")
    table: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            table.append(line.strip("|").split("|"))
        elif table:
            break
        elif line.startswith("#"):
            raise LookupError(f"no table under {way[-1]!r}")
    return table


def _found(places: dict[str, Any], name: str) -> Any:
    if name not in places:
        raise LookupError(f"no {name!r} among {', '.join(places)}")
    return places[name]


def _plain(cell: str) -> str:
    return cell.strip().strip("*`")


def _line(cells: Sequence[str]) -> str:
    return f"|{'|'.join(cells)}|"


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")]


class MeasuredDirective(SphinxDirective):
    """Rows of a table of the results. What is not there is an error."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec = {"rows": directives.unchanged, "columns": directives.unchanged}  # noqa: RUF012 - as docutils has it

    def run(self) -> list[nodes.Node]:
        way = [heading.strip() for heading in self.arguments[0].split(">")]
        chosen = {name: _listed(text) for name, text in self.options.items()}
        self.env.note_dependency(str(RESULTS))
        try:
            table = quoted(RESULTS.read_text(encoding="utf-8"), way, **chosen)
        except LookupError as error:
            raise self.error(f"{RESULTS.name}: {error.args[0]}") from None
        return self.parse_text_to_nodes(table)


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("measured", MeasuredDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
