"""The command ``lightning-automations``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning_automations.core.errors import ConfigError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after the name of the command; None: those of this process.

    Returns:
        The exit status: 0 on success, 2 when the command could not start, which is then explained on stderr.

    Raises:
        SystemExit: After ``--help`` and ``--version``, and with status 2 for arguments that are not known.
    """
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


def _demo(arguments: argparse.Namespace) -> int:
    from lightning_automations.cli.demo import run_demo

    return run_demo(config=arguments.config, fast=arguments.fast, output=arguments.output)


def _migrate(arguments: argparse.Namespace) -> int:
    from lightning_automations.cli.migrate import run_migrate

    return run_migrate(file=arguments.file, output=arguments.output, in_place=arguments.in_place)


def _add_migrate(commands: Any) -> None:
    migrate = commands.add_parser(
        "migrate",
        help="write the automations into a training configuration",
        description="Show what the automations would change in a configuration; write it only where asked to.",
    )
    migrate.add_argument("file", type=Path, metavar="FILE", help="YAML file of a training run")
    place = migrate.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, metavar="FILE", help="file to write the result to")
    place.add_argument("--in-place", action="store_true", help="write over the file; the old one is kept as FILE.bak")
    migrate.set_defaults(run=_migrate)


def _schema(_: argparse.Namespace) -> int:
    from lightning_automations.config.schema import section_schema

    print(json.dumps(section_schema(), indent=2, allow_nan=False))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-automations", description="Lightning callbacks that adapt a run while it trains."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('lightning-automations')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="train a small super-resolution network with all automations",
        description="Train a small super-resolution network on photographs, with all automations and without them.",
    )
    demo.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file to use instead of the one that ships with it"
    )
    demo.add_argument(
        "--fast", action="store_true", help="end in about 20 seconds: shows that it runs, not what it gains"
    )
    demo.add_argument("--output", type=Path, metavar="DIR", help="folder for journal, metrics and picture")
    demo.set_defaults(run=_demo)
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of the section, for completion in editors",
        description="Print the JSON Schema (draft 7) of a file with the section training_automations.",
    )
    schema.set_defaults(run=_schema)
    _add_migrate(commands)
    return parser
