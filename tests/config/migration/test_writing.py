"""A file is written whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lightning_automations.config.migration.writing import keep_backup, write_atomically


def test_a_new_file_can_be_read_by_others() -> None:
    """A temporary file cannot."""
    write_atomically(Path("new.yml"), b"a: 1\r\n")
    assert Path("new.yml").read_bytes() == b"a: 1\r\n"
    assert stat.S_IMODE(Path("new.yml").stat().st_mode) == 0o644


def test_nothing_is_left_behind_where_writing_fails() -> None:
    """Neither half of a file nor a temporary one."""
    Path("folder.yml").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(Path("folder.yml"), b"a: 1\n")
    assert [path.name for path in Path().iterdir()] == ["folder.yml"]


def test_a_backup_never_takes_the_place_of_anything() -> None:
    """Nor of a link that leads nowhere."""
    Path("c.yml").write_bytes(b"new")
    Path("c.yml.bak").symlink_to("nowhere")
    assert keep_backup(Path("c.yml")).name == "c.yml.bak1"
    assert keep_backup(Path("c.yml")).name == "c.yml.bak2"
    assert Path("c.yml.bak").is_symlink()
