"""``lightning-automations migrate``: shows what would change in a configuration, and writes it where asked to."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from lightning_automations.cli.fallback import CHECKS
from lightning_automations.config.analysis.facts import facts_of
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.document import document_of, read_document
from lightning_automations.config.migration.migrating import migrated
from lightning_automations.config.migration.writing import keep_backup, write_atomically

__all__ = ["run_migrate"]

_MARK = "\ufeff"


def run_migrate(*, file: Path, output: Path | None, in_place: bool) -> int:
    """Print the difference; write the new file if there is a place for it.

    Args:
        file: The configuration.
        output: Where to write the new one; None: nowhere.
        in_place: Write it over the old one, of which a backup is kept.

    Returns:
        The exit status as of ``check`` on the new text: 0 where it is sound, 1 where something is left to be mended by
        hand, which is told; 2 where the system does not let it be written.

    Raises:
        ConfigError: If the file does not load or cannot be changed safely. Nothing is written then.
    """
    read_document(file)  # refuses what is no readable configuration before its bytes are looked at
    old = file.read_bytes().decode("utf-8")
    mark = _MARK if old.startswith(_MARK) else ""
    new = mark + migrated(old[len(mark) :], str(file), checks=CHECKS)
    target = file if in_place else output
    _show(old, new, str(file), str(target or file))
    try:
        if target is not None:
            # A file that is written over is kept, whichever option named it.
            differs = target.exists() and target.read_bytes() != new.encode("utf-8")
            _write(new, target, backup_of=target if differs else None, unchanged=in_place and new == old)
    except OSError as error:
        print(f"{target}: cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    return _tell_what_is_left(new[len(mark) :], str(target or file))


def _show(old: str, new: str, before: str, after: str) -> None:
    if old == new:
        print(f"{before}: nothing to change", file=sys.stderr)
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), before, after, lineterm="")
    for line in lines:
        print(line)


def _tell_what_is_left(text: str, file: str) -> int:
    """What only the user can decide, one line each."""
    left = diagnose(facts_of(document_of(text, file), checks=CHECKS)).to_mend()
    for finding in left:
        place = file if finding.line is None else f"{file}:{finding.line}"
        print(f"{place}: left to be mended by hand: {finding.found}. {finding.mend}", file=sys.stderr)
    return 1 if left else 0


def _write(text: str, target: Path, *, backup_of: Path | None, unchanged: bool) -> None:
    if unchanged:
        return
    if backup_of is not None:
        print(f"The old file is kept as {keep_backup(backup_of)}", file=sys.stderr)
    write_atomically(target, text.encode("utf-8"))
    print(f"Written: {target}", file=sys.stderr)
