"""The lessons in notebooks/ are committed as they are written: without outputs, and without traces of a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.ipynb"))}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def _code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_lessons() -> None:
    """The rules below have something to hold."""
    assert {"quickstart", "rescue_a_learning_rate", "survive_out_of_memory", "when_to_stop", "own_automation"} <= set(
        NOTEBOOKS
    )


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs(name: str) -> None:
    """Neither results nor counts of execution, nor metadata of an editor."""
    notebook = NOTEBOOKS[name]
    assert notebook["metadata"] == METADATA
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in _code(notebook))
    assert all(cell["metadata"] == {} for cell in notebook["cells"])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_asserts_what_it_says(name: str) -> None:
    """A lesson that no longer holds fails in `make notebooks`."""
    assert any("assert " in "".join(cell["source"]) for cell in _code(NOTEBOOKS[name]))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_imports_public_names_alone(name: str) -> None:
    """What a reader copies has to hold in the next version, too."""
    source = "\n".join("".join(cell["source"]) for cell in _code(NOTEBOOKS[name]))
    assert "lightning_automations." not in source
