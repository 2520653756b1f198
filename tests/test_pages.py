"""The pages of docs/ say what is so: their code runs, their YAML loads, their fields are those of a journal.

A block of ``python`` is run; one of ``{code-block} python`` is shown only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import pytest
import torch

from lightning_automations import AdaptiveGradientClipping, build_callbacks
from lightning_automations.callbacks.journal import Journal
from tests.callbacks.helpers import Regression, journal_entries, make_trainer, train_loader, val_loader
from tests.registry import EPOCHS, ROWS, Row

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT / "docs").as_posix(): path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
# A page that reads what the program of another one leaves behind.
AFTER = {"journal.md": "quickstart.md"}
COMMON_FIELDS = {"time", "run", "event", "automation", "step"}


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")])
def test_the_code_of_a_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From top to bottom, as one program."""

    class QuietTrainer(lightning.Trainer):
        def __init__(self, **arguments: object) -> None:
            super().__init__(**arguments, accelerator="cpu", enable_progress_bar=False)

    monkeypatch.setattr(lightning, "Trainer", QuietTrainer)
    program = ModuleType("program_of_a_page")
    # a dataclass looks for the names of its types there
    monkeypatch.setitem(sys.modules, program.__name__, program)
    for one in [AFTER[page], page] if page in AFTER else [page]:
        exec("\n".join(_blocks(one, "python")), vars(program))


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "yaml")])
def test_the_sections_of_a_page_load(page: str, tmp_path: Path) -> None:
    """What is shown can be copied."""
    for block in _blocks(page, "yaml"):
        (tmp_path / "train.yml").write_text(block)
        assert build_callbacks(tmp_path / "train.yml")


def _documented_fields() -> dict[str, set[str]]:
    [table] = re.findall(r"^## Events\n+((?:\|.*\n)+)", PAGES["journal.md"], re.MULTILINE)
    rows = [row.strip("|").split("|") for row in table.splitlines()[2:]]
    return {row[0].strip(" `"): set(re.findall(r"`(\w+)`", row[2])) | COMMON_FIELDS for row in rows}


class _WithOutliers(Regression):
    """One loss is far too large, one is NaN."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        factor = {70: 1e6, 90: float("nan")}.get(self.global_step, 1.0)
        return factor * super().training_step(batch, batch_idx)


OUTLIERS = Row(AdaptiveGradientClipping, {"monitoring_frequency": 4, "gradient_history_size": 8}, _WithOutliers)


@pytest.mark.parametrize(("row", "event"), [*((row, "adjustment") for row in ROWS), (OUTLIERS, "outlier")], ids=str)
def test_the_journal_has_the_fields_of_the_page(row: Row, event: str) -> None:
    """In every line that an automation writes, those of its event and no others."""
    trainer = make_trainer([row.make(journal="journal.jsonl")], max_epochs=EPOCHS)
    trainer.fit(row.module(), train_loader(), val_loader())
    entries = journal_entries(Path("journal.jsonl"))
    assert [entry for entry in entries if set(entry) != _documented_fields()[entry["event"]]] == []
    assert {"start", event, "end"} <= {entry["event"] for entry in entries}


def test_a_retirement_has_the_fields_of_the_page() -> None:
    """An automation without a budget retires as training starts."""
    trainer = make_trainer([AdaptiveGradientClipping(journal="journal.jsonl", max_adjustments=0)], max_epochs=1)
    trainer.fit(Regression(), train_loader(), val_loader())
    [entry] = [entry for entry in journal_entries(Path("journal.jsonl")) if entry["event"] == "retired"]
    assert set(entry) == _documented_fields()["retired"]


def test_the_page_of_the_journal_names_every_event() -> None:
    """The writer's docstring lists them."""
    assert set(re.findall(r"``(\w+)``", Journal.write.__doc__ or "")) == set(_documented_fields())


def test_the_figures_of_the_readme_are_those_of_the_results() -> None:
    """A row of its table is a row of the headline, up to the columns that are left out."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text().splitlines()
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if re.match(r"\| [\w*].*%", line)]
    assert len(rows) == 3
    assert all(any(line.startswith(row) for line in results) for row in rows)


def test_pages_are_short() -> None:
    """A page answers one question."""
    assert not {page: len(text.splitlines()) for page, text in PAGES.items() if len(text.splitlines()) > 200}


def test_links_of_the_readme_lead_somewhere() -> None:
    """Those to files of the repository."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []
