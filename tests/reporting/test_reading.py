"""What is read of a run, however odd its files are."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_automations.core.decision import Reason
from lightning_automations.reporting import logged
from lightning_automations.reporting.errors import ReportError
from lightning_automations.reporting.reading import read_run
from lightning_automations.reporting.record import Series
from tests.reporting.runs import BATCH, CLIPPING, RATE, change, entry, start, write_journal, write_metrics


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Settings, changes, notes, outliers and last words arrive, and logged steps become steps done."""
    outlier = {"norm": "inf", "threshold": 1.0, "left": "nan", "dominant": {"parameter": "layer.weight", "share": None}}
    write_journal(
        tmp_path,
        start(patience=5),
        entry("note", message="hello"),
        change(step=10, reason="plateau"),
        entry("outlier", CLIPPING, step=11, **outlier),
        entry("retired", step=12, why="enough", fallback={}),
        entry("end", step=20, adjustments=1, retired=True, summary="factor 0.5"),
    )
    write_metrics(tmp_path, train__loss=[2.0, 1.0], epoch=[0, 0])
    run = read_run(tmp_path)
    assert run.settings == {RATE: {"patience": 5}}
    assert (run.changes[0].step, run.changes[0].new, run.changes[0].why) == (
        10,
        0.5,
        "no improvement for the length of the patience",
    )
    assert [(told.text, told.retired) for told in run.told] == [("hello", False), ("enough", True)]
    assert (run.outliers[0].norm, run.outliers[0].parameter) == (math.inf, "layer.weight")
    assert run.ends[0].summary == "factor 0.5"
    assert run.series == {"train/loss": Series((10, 20), (2.0, 1.0))}
    assert (run.planned_steps, run.last_step, run.problems) == (100, 20, ())


@pytest.mark.parametrize(
    "line",
    [
        '{"time": 1, "run": "a", "event": "adjus',
        "[]",
        "null",
        '{"event": "start"}',
        '{"run": "a", "event": "party", "automation": "A", "step": 1}',
        '{"run": "a", "event": "end", "automation": "A", "step": "x"}',
        '{"run": "a", "event": "note", "automation": "A", "step": Infinity, "message": ""}',
        "\x00\x00",
    ],
)
def test_a_line_that_cannot_be_read_is_left_out_and_said(tmp_path: Path, line: str) -> None:
    """A killed run leaves half a line; the rest of the journal counts."""
    write_journal(tmp_path, start(), change(step=10, reason="plateau"), tail=line)
    run = read_run(tmp_path)
    assert len(run.changes) == 1
    assert any("1 line(s) of automations.jsonl" in problem for problem in run.problems)


def test_a_resumed_run_has_two_sessions(tmp_path: Path) -> None:
    """Each fit has a name of its own in the journal."""
    lines = [
        start(),
        change(step=10, reason="plateau"),
        start(step=8, run="b"),
        change(step=12, reason="plateau", run="b"),
    ]
    write_journal(tmp_path, *lines)
    run = read_run(tmp_path)
    assert [session.first_step for session in run.sessions] == [0, 8]
    assert [made.session for made in run.changes] == [0, 1]


def test_numbers_that_are_none_are_kept_as_gaps(tmp_path: Path) -> None:
    """NaN in journal and metrics is what it is, an empty cell is nothing."""
    write_journal(tmp_path, start(), change(step=10, reason="non_finite", old=math.nan, evidence={"loss": math.nan}))
    write_metrics(tmp_path, train__loss=[1.0, "nan", None, "inf", "word"])
    run = read_run(tmp_path)
    assert run.series["train/loss"].steps == (10, 20, 40)
    assert math.isnan(run.series["train/loss"].values[1])
    assert run.changes[0].old == "nan"


def test_an_unknown_reason_is_shown_as_it_is(tmp_path: Path) -> None:
    """A journal of another version is read."""
    write_journal(tmp_path, change(step=1, reason="moon_phase", evidence=None, old=[1], new=None))
    [made] = read_run(tmp_path).changes
    assert (made.why, made.old, made.new) == ("moon phase", "[1]", None)
    assert "moon_phase" not in set(Reason)


def test_the_one_run_below_a_folder_is_found(tmp_path: Path) -> None:
    """As the demo leaves it; a journal itself can be named too."""
    path = write_journal(tmp_path / "logs" / "version_0", start(BATCH))
    assert read_run(tmp_path).journal == read_run(path).journal == path


def test_two_runs_below_a_folder_are_named(tmp_path: Path) -> None:
    """Which one is meant is for the user to say."""
    write_journal(tmp_path / "one", start())
    write_journal(tmp_path / "two", start())
    with pytest.raises(ReportError, match=r"there are 2 below it: .*one, .*two\. Name one\."):
        read_run(tmp_path)


def test_a_folder_without_a_journal_says_why_there_may_be_none(tmp_path: Path) -> None:
    """What was looked for, where, and what to do."""
    with pytest.raises(ReportError, match=r"no automations\.jsonl in it or below it.*journal: false"):
        read_run(tmp_path)
    with pytest.raises(ReportError, match="there is no such folder"):
        read_run(tmp_path / "nowhere")


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    """Any file may carry the name."""
    (tmp_path / "automations.jsonl").write_bytes(b"\xff\xfe\n{}\n")
    with pytest.raises(ReportError, match="none of its lines"):
        read_run(tmp_path)


def test_metrics_without_steps_are_said_and_left_out(tmp_path: Path) -> None:
    """Another program's file of the same name ends no report."""
    write_journal(tmp_path, start())
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    run = read_run(tmp_path)
    assert run.series == {}
    assert run.problems == ("metrics.csv could not be read (it has no column 'step').",)


def test_missing_metrics_are_said(tmp_path: Path) -> None:
    """There are other loggers."""
    write_journal(tmp_path, start())
    assert "No logged numbers were found" in read_run(tmp_path).problems[0]


def test_event_files_are_read_where_tensorboard_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scalars become series; without the package the report says so. The reader stands in for the real package."""
    write_journal(tmp_path, start())
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setattr(logged, "find_spec", lambda name: None)
    assert "where the package tensorboard is installed" in read_run(tmp_path).problems[0]

    class Accumulator:
        def __init__(self, path: str, size_guidance: dict[str, int]) -> None:
            assert (path, size_guidance) == (str(tmp_path), {"scalars": 0})

        def Reload(self) -> None:  # noqa: N802 - TensorBoard's name
            pass

        def Tags(self) -> dict[str, list[str]]:  # noqa: N802 - TensorBoard's name
            return {"scalars": ["loss", "epoch"]}

        def Scalars(self, name: str) -> list[SimpleNamespace]:  # noqa: N802 - TensorBoard's name
            return [SimpleNamespace(step=4, value=1.5)]

    monkeypatch.setattr(logged, "find_spec", lambda name: True)
    module = SimpleNamespace(EventAccumulator=Accumulator, SCALARS="scalars")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", module)
    monkeypatch.setattr(logged, "import_module", lambda name: sys.modules[name])
    assert read_run(tmp_path).series == {"loss": Series((5,), (1.5,))}


def test_the_value_at_a_step_is_the_last_one_before_it() -> None:
    """Before the first one it is the first; of nothing it is nothing."""
    series = Series((10, 20), (1.0, 2.0))
    assert [series.at(step) for step in (5, 10, 19, 20, 99)] == [1.0, 1.0, 1.0, 2.0, 2.0]
    assert (Series((), ()).at(3), Series((), ()).last) == (None, None)
