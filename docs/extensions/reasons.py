"""The directive ``reasons``: prints every reason that the journal knows, with what it means."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lightning_automations.core.decision import Reason, explanation

__all__ = ["ReasonsDirective", "setup"]


class ReasonsDirective(SphinxDirective):
    """A table of reasons and explanations, in the order of their declaration."""

    def run(self) -> list[nodes.Node]:
        rows = [f"| `{reason}` | {explanation(reason)} |" for reason in Reason]
        return self.parse_text_to_nodes("\n".join(["| reason | what it means |", "| --- | --- |", *rows]))


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("reasons", ReasonsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
