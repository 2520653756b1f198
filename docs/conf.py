"""How Sphinx builds these pages: ``make docs``."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

project = "lightning-automations"
author = "the authors of lightning-automations"
version = release = installed_version("lightning-automations")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "extensions.measured",
    "extensions.reasons",
    "extensions.settings",
]
exclude_patterns = ["extensions"]

html_theme = "furo"
html_title = "lightning-automations"
html_static_path = ["static"]
html_css_files = ["settings.css"]
html_show_copyright = False
html_show_sphinx = False
# The sources are in the repository; a second copy of them would be searched and linked.
html_copy_source = False

myst_enable_extensions = ["deflist"]
# so that a page can point at a heading of another: limits.md#learning-rate
myst_heading_anchors = 3

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# benchmarks/RESULTS.md goes from a second level to a fourth one.
suppress_warnings = ["myst.header"]


def _link_to_pages(app: Sphinx, path: Path, page: str, content: list[str]) -> None:
    """What a file of the repository links to is a page here."""
    content[0] = content[0].replace("](benchmarks/RESULTS.md)", "](results.md)")


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("include-read", _link_to_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
