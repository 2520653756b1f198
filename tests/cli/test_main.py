"""The command line: arguments, exit status, and how it fails."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from lightning_automations.cli import demo
from lightning_automations.cli.main import main
from lightning_automations.core.errors import ConfigError, Problem


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the demo was called with, instead of running it."""
    calls: list[dict[str, Any]] = []

    def record(**arguments: Any) -> int:
        calls.append(arguments)
        return len(calls) - 1

    monkeypatch.setattr(demo, "run_demo", record)
    return calls


def test_the_demo_gets_its_arguments(calls: list[dict[str, Any]]) -> None:
    """Paths arrive as paths, what is not given as None; the exit status is the demo's own."""
    assert main(["demo"]) == 0
    assert main(["demo", "--fast", "--config", "a.yml", "--output", "b"]) == 1
    assert calls == [
        {"config": None, "fast": False, "output": None},
        {"config": Path("a.yml"), "fast": True, "output": Path("b")},
    ]


def test_the_arguments_of_the_process_are_the_default(
    calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The installed command calls `main` without arguments."""
    monkeypatch.setattr(sys, "argv", ["lightning-automations", "demo", "--fast"])
    assert main() == 0
    assert calls == [{"config": None, "fast": True, "output": None}]


def test_a_wrong_configuration_is_a_message_and_status_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message goes to stderr; nothing is written to stdout, where a pipe would take it for a result."""

    def refuse(**arguments: Any) -> int:
        raise ConfigError([Problem(path="a", expected="x", got="y")])

    monkeypatch.setattr(demo, "run_demo", refuse)
    assert main(["demo"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a: expected x, got y.\n")


@pytest.mark.parametrize("argv", [[], ["no-such-command"], ["demo", "--no-such-option"], ["demo", "--config"]])
def test_wrong_arguments_end_with_the_usage_and_status_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As every command does."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: lightning-automations")


@pytest.mark.parametrize("argv", [["--help"], ["demo", "--help"]])
def test_help_is_no_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status zero, on stdout, with the options of the demo where they belong."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert ("--config FILE" in text) == ("demo" in argv)


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightning_automations", *arguments], capture_output=True, text=True, check=False
    )


def test_the_package_is_a_command() -> None:
    """`python -m lightning_automations` works where scripts are not on the path."""
    done = _run("--version")
    expected = f"lightning-automations {version('lightning-automations')}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_a_wrong_file_ends_without_a_traceback() -> None:
    """The whole way, in a process of its own: the message of ConfigError and status two."""
    Path("c.yml").write_text("training_automations:\n  early_stopping:\n    patience: -1\n")
    done = _run("demo", "--fast", "--config", "c.yml")
    assert done.returncode == 2
    assert "c.yml:3: training_automations.early_stopping.patience: expected a whole number at least 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """``schema | head`` ends without a traceback."""
    command = [sys.executable, "-m", "lightning_automations", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_disk_that_is_full_is_told() -> None:
    """With status 2: 1 means findings."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lightning_automations", "schema"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr.decode() == "lightning-automations schema: [Errno 28] No space left on device\n"
