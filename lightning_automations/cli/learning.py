"""How a command comes to know automations that this package does not have."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Iterable
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
        ConfigError: If there is no such module, or it fails while it is imported.
    """
    find_installed_automations()
    for module in modules:
        _import(module)


def _import(module: str) -> None:
    if not all(part.isidentifier() for part in module.split(".")):
        raise _cannot_import(repr(module), f"Name it as an import statement does{_as_imported(module)}.")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        importlib.import_module(module)
    except ImportError as error:
        as_imported = _as_imported(module) if module.endswith(".py") else ""
        advice = f"Name it as an import statement does{as_imported}, and run the command where the import starts."
        raise _cannot_import(f"{module!r} ({error})", advice) from error
    except (Exception, SystemExit) as error:  # a module of the user's fails in any way
        advice = "Mend it there; what a script runs belongs below 'if __name__ == \"__main__\":'."
        got = f"{module!r}, which raised {type(error).__name__}{_line_of(error)}: {error}"
        raise _cannot_import(got, advice) from error


def _line_of(error: BaseException) -> str:
    """Where the module stood when it failed; a file that does not parse names its line itself."""
    frames = traceback.extract_tb(error.__traceback__)
    machinery = (__file__, importlib.__file__)
    lines = [
        f" ({frame.filename}, line {frame.lineno})"
        for frame in frames
        if frame.filename not in machinery and not frame.filename.startswith("<frozen")
    ]
    return lines[0] if lines else ""


def _as_imported(module: str) -> str:
    """The name of a module that was given as a file, as a suggestion."""
    parts = Path(module.removesuffix(".py")).parts
    return f": {'.'.join(parts)}" if parts and all(part.isidentifier() for part in parts) else ""


def _cannot_import(got: str, hint: str) -> ConfigError:
    return ConfigError([Problem(path="--import", expected="a module that can be imported", got=got, hint=hint)])
