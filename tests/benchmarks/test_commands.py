from pathlib import Path

import pytest

from benchmarks import measuring
from benchmarks.__main__ import main
from benchmarks.measuring import MODES, CannotStart, measure


@pytest.fixture(autouse=True)
def _not_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command silences its process, which is that of all tests here."""
    monkeypatch.setattr("benchmarks.__main__.quiet_worker", lambda: None)


@pytest.mark.parametrize("number", ["0", "-1", "two"])
@pytest.mark.parametrize("option", ["--seeds", "--workers"])
def test_a_number_below_one_is_refused_before_anything_is_measured(
    option: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No seeds would write an empty page over the committed one."""
    with pytest.raises(SystemExit):
        main(["full", f"{option}={number}"])
    assert f"expected a whole number, 1 or more, got '{number}'" in capsys.readouterr().err


def test_a_missing_peer_is_named_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left out, its absence would look like its failure."""
    monkeypatch.setattr(measuring, "missing_packages", lambda: ["zclip"])
    with pytest.raises(CannotStart, match=r"not installed: zclip\. `make bench-quick` installs them\."):
        measure(MODES["quick"], workers=1)


def test_a_report_without_results_says_what_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and an exit status, no traceback."""
    monkeypatch.setattr(measuring, "MODES", {"full": measuring.Mode(plan=measuring.FULL, folder=tmp_path)})
    assert main(["report"]) == 2
    assert "make bench-full" in capsys.readouterr().err
