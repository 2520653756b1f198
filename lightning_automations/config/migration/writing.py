"""Writes a file whole or not at all, and keeps the one that was there."""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import count
from pathlib import Path

__all__ = ["keep_backup", "write_atomically"]


def keep_backup(path: Path) -> Path:
    """Copy a file to ``FILE.bak``, or to ``FILE.bak1`` and so on where that is taken.

    Args:
        path: The file; a link is followed.

    Returns:
        The path of the copy.
    """
    content = path.read_bytes()
    target = path.resolve()
    names = (target.with_name(f"{target.name}.bak{number or ''}") for number in count())
    backup = next(name for name in names if not os.path.lexists(name))
    with backup.open("xb") as file:  # fails rather than write over one that came in between
        file.write(content)
    shutil.copymode(target, backup)
    return backup


def write_atomically(path: Path, content: bytes) -> None:
    """Put a new content in the place of a file in one move, so that no reader meets half of it.

    Args:
        path: The file; a link is followed, and its mode is kept.
        content: What it holds afterwards.
    """
    target = path.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        if target.exists():
            shutil.copymode(target, temporary)
        else:
            temporary.chmod(0o644)
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
