"""How a command comes to know automations that this package does not have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.registration import find_installed_automations

__all__ = ["add_import_option", "learn_automations"]


def add_import_option(command: argparse.ArgumentParser) -> None:
    """The option that names what ``learn_automations`` imports."""
    command.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import this module first, for the automations of your own that it registers (also from this folder); "
        "may be given several times",
    )


def learn_automations(modules: Iterable[str]) -> None:
    """Register the automations of installed packages, and those of modules that are named.

    Args:
        modules: Names of modules, as in an import; the current folder is searched after all others.

    Raises:
        ConfigError: If there is no such module, or it imports what is not there.
    """
    find_installed_automations()
    for module in modules:
        _import(module)


def _import(module: str) -> None:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        import_module(module)
    except ImportError as error:
        hint = "Name it as an import statement does, and run the command in the folder in which the import starts."
        got = f"{module!r} ({error})"
        problem = Problem(path="--import", expected="a module that can be imported", got=got, hint=hint)
        raise ConfigError([problem]) from error
