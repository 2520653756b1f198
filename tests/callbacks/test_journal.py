"""Where the journal goes. What stands in it is tested with the automations."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_automations.callbacks.journal import journal_path


@pytest.mark.parametrize(
    ("setting", "has_logger", "expected"),
    [
        ("auto", True, Path("logs/automations.jsonl")),
        ("auto", False, None),
        (True, True, Path("logs/automations.jsonl")),
        (False, True, None),
        ("mine/story.jsonl", False, Path("mine/story.jsonl")),
    ],
)
def test_the_setting_says_where_the_journal_goes(setting: str | bool, has_logger: bool, expected: Path | None) -> None:
    """``auto`` follows the logger, a path is taken as it is, False is nowhere."""
    assert journal_path(setting, log_dir="logs", has_logger=has_logger) == expected
