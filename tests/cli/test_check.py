"""``lightning-automations check``: what it prints and its exit status."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lightning_automations.cli.main import main

SOUND = "training_automations:\n"
PARTLY = "train:\n  total_iter: 4000\n  grad_clip: 0.5\n  training_automations:\n"
NOTE = "training_automations:\n  early_stopping: {dry_run: true}\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this process, with a file of each kind."""
    for name, text in (("sound.yml", SOUND), ("partly.yml", PARTLY), ("note.yml", NOTE), ("broken.yml", "a: [1\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["sound.yml"], 0),
        (["note.yml"], 0),
        (["note.yml", "--strict"], 1),
        (["partly.yml"], 1),
        (["sound.yml", "partly.yml"], 1),
        (["broken.yml"], 2),
        (["nowhere.yml"], 2),
        (["partly.yml", "broken.yml", "sound.yml"], 2),
    ],
)
@pytest.mark.parametrize("form", ["table", "json", "markdown"])
def test_exit_status_says_how_the_worst_file_stands(
    form: str, arguments: list[str], status: int, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the form: 0 sound, 1 findings, 2 not readable; every file is told of."""
    assert main(["check", "--format", form, *arguments]) == status
    told = capsys.readouterr()
    assert all(name in told.out for name in arguments if name.endswith(".yml"))
    assert told.err == ""


def test_the_table_says_where_what_why_and_what_to_do(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people."""
    main(["check", "partly.yml"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "partly.yml: 1 finding." in told
    assert "AdaptiveGradientClipping line 3, train.grad_clip partly train.grad_clip clips beside the automation" in told
    assert "Turn it off" in told


def test_no_file_is_changed(written: Path) -> None:
    """Neither its bytes nor its time."""
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in written.iterdir()}
    main(["check", *map(str, before)])
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in written.iterdir()} == before


def test_json_is_all_that_is_printed(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program can read it, unreadable files included."""
    main(["check", "--format", "json", "partly.yml", "broken.yml"])
    told = json.loads(capsys.readouterr().out)
    assert [file["readable"] for file in told["files"]] == [True, False]
    assert told["files"][1]["problems"][0]["line"] >= 1


def test_markdown_shows_what_migrate_would_change(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without the section gets it; one that migrate refuses gets no such part."""
    (written / "old.yml").write_text("train:\n  total_iter: 4000\n  grad_clip: true\n", encoding="utf-8")
    (written / "cli.yml").write_text("trainer:\n  max_steps: 9\n", encoding="utf-8")
    main(["check", "--format", "markdown", "old.yml"])
    assert "\n+  training_automations:\n" in capsys.readouterr().out
    main(["check", "--format", "markdown", "cli.yml"])
    assert "Recommended change" not in capsys.readouterr().out


def test_length_and_samples_may_be_told(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the file does not say how long the run is."""
    (written / "long.yml").write_text("training_automations:\n  early_stopping: {min_iterations: 900}\n")
    assert main(["check", "long.yml"]) == 0
    # torch is not asked where there is no fallback
    (written / "rate.yml").write_text("training_automations:\n  learning_rate_scheduler: {plateau_patience: 9}\n")
    assert main(["check", "rate.yml"]) == 0
    assert main(["check", "long.yml", "--steps", "900"]) == 1
    assert "the run has 900 steps" in capsys.readouterr().out


@pytest.mark.parametrize("count", ["0", "-1", "many", "1.5"])
def test_a_count_that_is_none_is_refused_in_words(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was expected, and what came."""
    with pytest.raises(SystemExit):
        main(["check", "c.yml", "--samples", count])
    assert f"argument --samples: expected a whole number of 1 or more, got {count!r}" in capsys.readouterr().err


def test_a_fallback_that_torch_refuses_is_found(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What only torch can say of a file is said here, too."""
    (written / "fallback.yml").write_text(
        "training_automations:\n  learning_rate_scheduler:\n    fallback:\n      scheduler_type: step\n"
        "      scheduler_params: {step_sise: 3}\n"
    )
    assert main(["check", "--format", "json", "fallback.yml"]) == 1
    (subject,) = [
        one
        for one in json.loads(capsys.readouterr().out)["files"][0]["subjects"]
        if one["name"] == "IntelligentLearningRateScheduler"
    ]
    assert subject["status"] == "invalid"
    assert [finding["line"] for finding in subject["findings"]] == [5]


def test_the_example_of_the_readme_is_sound_in_a_run_of_its_length(written: Path) -> None:
    """Notes included."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (written / "readme.yml").write_text(example, encoding="utf-8")
    assert main(["check", "readme.yml", "--strict", "--steps", "40000"]) == 0
