"""``lightning-automations report``: where it writes, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_automations.cli.main import main
from lightning_automations.reporting import errors
from tests.reporting.runs import change, start, write_journal, write_metrics


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with one curve and one adjustment."""
    write_journal(tmp_path / "run", start(), change(step=10, reason="plateau"))
    write_metrics(tmp_path / "run", train__loss=[2.0, 1.0])
    return tmp_path / "run"


def test_the_report_is_written_into_the_folder_of_the_run(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And its path is printed."""
    assert main(["report", str(run_dir)]) == 0
    assert capsys.readouterr().out == f"{run_dir / 'report.html'}\n"
    assert (run_dir / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_page_and_pictures_go_where_they_are_wanted(run_dir: Path, tmp_path: Path) -> None:
    """Folders are made."""
    output, pictures = tmp_path / "new" / "page.html", tmp_path / "pictures"
    assert main(["report", str(run_dir), "--output", str(output), "--png", str(pictures)]) == 0
    assert output.exists()
    assert [path.name for path in pictures.iterdir()] == ["loss.png"]
    assert not (run_dir / "report.html").exists()


def test_a_folder_without_a_journal_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and a message, no traceback."""
    assert main(["report", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "no automations.jsonl in it or below it" in captured.err


def test_a_place_of_the_wrong_kind_is_told(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder for the page, a file for the pictures; nothing is written."""
    assert main(["report", str(run_dir), "--output", str(run_dir)]) == 2
    assert capsys.readouterr().err == (
        f"The page: expected a file to write, got the folder {run_dir}. Name {run_dir / 'report.html'}.\n"
    )
    journal = run_dir / "automations.jsonl"
    assert main(["report", str(run_dir), "--png", str(journal)]) == 2
    assert capsys.readouterr().err == f"The pictures: expected a folder for several, got the file {journal}.\n"
    assert not (run_dir / "report.html").exists()


def test_a_place_that_cannot_be_written_is_told(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of the system, with the place."""
    below_a_file = run_dir / "automations.jsonl" / "page.html"
    assert main(["report", str(run_dir), "--output", str(below_a_file)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("The report cannot be written: ")
    assert str(below_a_file.parent) in told


def test_a_missing_package_names_the_extra(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to install is said."""
    monkeypatch.setattr(errors, "find_spec", lambda name: None if name == "plotly" else True)
    assert main(["report", str(run_dir)]) == 2
    assert capsys.readouterr().err == 'The report needs plotly: pip install "lightning-automations[report]"\n'
