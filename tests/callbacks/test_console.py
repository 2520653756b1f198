"""Messages are seen once: by us where logging is not configured, by the program's handlers where it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOG = "import logging; import lightning_automations.callbacks; log = logging.getLogger('lightning_automations.x'); "


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (LOG + "log.info('seen')", "seen\n"),
        (LOG + "logging.basicConfig(format='mine %(message)s'); log.info('seen')", "mine seen\n"),
        ("import logging; logging.getLogger('lightning_automations').setLevel('ERROR'); " + LOG + "log.info('no')", ""),
    ],
    ids=["plain program", "configured later", "level of the user"],
)
def test_messages_are_shown_once(program: str, expected: str) -> None:
    """Without configuration on stderr; with one only there; a level that was set holds."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == expected
