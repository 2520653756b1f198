"""The demo: five automations at work on a small super-resolution network and real photographs.

What needs the packages of the extra `demo` is imported only once they are known to be there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from lightning_automations.core.errors import ConfigError

__all__ = ["run_demo"]

_PACKAGES = {"skimage": "scikit-image", "PIL": "pillow", "rich": "rich"}
"""Module and distribution of everything that the extra `demo` brings and the demo uses."""

_CANNOT_START = 2


def run_demo(config: Path | None = None, fast: bool = False, output: Path | None = None) -> int:
    """Train with and without automations, print what they did and what it was worth.

    Args:
        config: YAML file with the automations; None: the example that comes with the package.
        fast: End in about 20 seconds, with a run too short for more than a first impression.
        output: Folder for journal, metrics and picture, new or empty; None: a new one under ``runs``.

    Returns:
        The exit status: 0, or 2 when the demo could not start and said why.
    """
    missing = _missing(_PACKAGES)
    if missing:
        return _refuse(f'The demo needs {", ".join(missing)}: pip install "lightning_automations[demo]"')
    if output is not None and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        return _refuse(f"{output}: expected a new or empty folder for the results of the demo.")

    from lightning_automations.cli.demo.run import FAST, FULL, run

    try:
        run(config, FAST if fast else FULL, output)
    except ConfigError as error:
        return _refuse(str(error))
    return 0


def _missing(modules: Iterable[str]) -> list[str]:
    return [_PACKAGES[module] for module in modules if find_spec(module) is None]


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return _CANNOT_START
