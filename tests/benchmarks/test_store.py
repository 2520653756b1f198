import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import store
from benchmarks.outcome import Cell, Outcome
from benchmarks.store import Progress, fingerprint, provenance, read_json, write_json

CELL = Cell(task="wine", optimizer="sgd", scenario="clean", method="plain", seed=0)
OUTCOME = Outcome(cell=CELL, score=0.9, test_loss=0.3, start_loss=1.1, steps=10, samples=320, changes={"A": 2})


def test_an_outcome_survives_a_result_file(tmp_path: Path) -> None:
    """What is read is what was written; NaN is written as null, which JSON knows."""
    diverged = replace(OUTCOME, score=float("nan"))
    write_json(tmp_path / "runs.json", {"date": "today"}, [OUTCOME.as_json(), diverged.as_json()])
    written = read_json(tmp_path / "runs.json")
    assert written["date"] == "today"
    assert [Outcome.from_json(row) for row in written["rows"]] == [OUTCOME, replace(OUTCOME, score=None)]


def test_a_result_file_without_rows_is_json_too(tmp_path: Path) -> None:
    """A measurement may have nothing to tell."""
    write_json(tmp_path / "runs.json", {"date": "today"})
    assert read_json(tmp_path / "runs.json") == {"date": "today", "rows": []}


def test_a_measurement_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """A line that was cut off half-way is lost alone, and what is added after it is not."""
    path = tmp_path / "progress.jsonl"
    Progress(path, fingerprint="now").add({"number": 1})
    with path.open("a") as file:
        file.write('{"code": "now", "ro')
    progress = Progress(path, fingerprint="now")
    assert progress.rows() == [{"number": 1}]
    progress.add({"number": 2})
    assert progress.rows() == [{"number": 1}, {"number": 2}]


def test_rows_of_other_code_are_not_mixed_in(tmp_path: Path) -> None:
    """A scoreboard is of one state of the code."""
    path = tmp_path / "progress.jsonl"
    Progress(path, fingerprint="before").add({"number": 1})
    Progress(path, fingerprint="after").add({"number": 2})
    assert Progress(path, fingerprint="after").rows() == [{"number": 2}]


def test_each_part_has_the_fingerprint_of_its_own_code() -> None:
    """The same code has the same one, in any process; curves need not be recorded anew when a clipper changes."""
    parts = ("runs of peers", "runs of ours", "stopping", "batch", "overhead")
    assert [fingerprint(part) for part in parts] == [fingerprint(part) for part in parts]
    assert len({fingerprint(part) for part in parts}) == len(parts)


def test_the_fingerprint_changes_with_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with how the figures are put on a page."""
    folder = tmp_path / "benchmarks" / "stopping"
    folder.mkdir(parents=True)
    monkeypatch.setattr(store, "ROOT", tmp_path)
    (folder / "jobs.py").write_text("one")
    before = fingerprint("stopping")
    (folder / "section.py").write_text("any")
    assert fingerprint("stopping") == before
    (folder / "jobs.py").write_text("two")
    assert fingerprint("stopping") != before


def test_a_change_of_ours_does_not_cost_the_runs_of_the_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those take an hour and do not depend on it."""
    monkeypatch.setattr(store, "ROOT", tmp_path)
    for folder in ("lightning_automations", "benchmarks/methods"):
        (tmp_path / folder).mkdir(parents=True)
    before = {part: fingerprint(part) for part in ("runs of peers", "runs of ours")}
    (tmp_path / "lightning_automations" / "brain.py").write_text("better")
    (tmp_path / "benchmarks" / "methods" / "ours.py").write_text("more of it")
    assert fingerprint("runs of peers") == before["runs of peers"]
    assert fingerprint("runs of ours") != before["runs of ours"]
    (tmp_path / "benchmarks" / "methods" / "another_peer.py").write_text("a rival")
    assert fingerprint("runs of peers") != before["runs of peers"]


def test_provenance_names_versions_and_machine_but_not_whose_it_is() -> None:
    """Enough to compare figures, nothing private."""
    told = provenance()
    assert told["versions"]["torch"]
    assert told["machine"]["cores"] >= 1
    assert "/" not in json.dumps(told["machine"])
