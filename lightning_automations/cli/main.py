"""The command ``lightning-automations``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning_automations.cli.learning import add_import_option, learn_automations
from lightning_automations.core.errors import ConfigError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after the name of the command; None: those of this process.

    Returns:
        The exit status: 0 on success, 2 when the command could not start, which is then explained on stderr; ``check``
        has 1 for files in which something is to be mended.

    Raises:
        SystemExit: After ``--help`` and ``--version``, and with status 2 for arguments that are not known.
    """
    arguments = _parser().parse_args(argv)
    try:
        if "modules" in arguments:
            learn_automations(arguments.modules)
        status = int(arguments.run(arguments))
        sys.stdout.flush()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has; what is still to be written goes nowhere.
        _drop_output()
        return 0
    except OSError as error:
        print(f"lightning-automations {arguments.command}: {error}", file=sys.stderr)
        _drop_output()
        return 2
    return status


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _demo(arguments: argparse.Namespace) -> int:
    from lightning_automations.cli.demo import run_demo

    return run_demo(config=arguments.config, fast=arguments.fast, output=arguments.output)


def _migrate(arguments: argparse.Namespace) -> int:
    from lightning_automations.cli.migrate import run_migrate

    return run_migrate(file=arguments.file, output=arguments.output, in_place=arguments.in_place)


def _check(arguments: argparse.Namespace) -> int:
    from lightning_automations.cli.check import run_check

    return run_check(
        arguments.files,
        form=arguments.format,
        strict=arguments.strict,
        samples=arguments.samples,
        steps=arguments.steps,
    )


def _add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="say how the automations stand in a training configuration, and what to mend",
        description="Say how each automation stands in a training configuration: right, partly, missing, old style, "
        "without effect or invalid, with file and line. The files are not changed. Exit status: 0 where nothing is to "
        "be mended, 1 where something is, 2 where a file cannot be read.",
    )
    check.add_argument("files", type=Path, nargs="+", metavar="FILE", help="YAML file of a training run")
    check.add_argument("--format", choices=("table", "json", "markdown"), default="table", help="of what is printed")
    check.add_argument("--strict", action="store_true", help="exit with 1 for notes, too")
    check.add_argument("--samples", type=_count, metavar="N", help="samples of an epoch, where the file does not tell")
    check.add_argument("--steps", type=_count, metavar="N", help="optimizer steps of the run; wins over the file's")
    add_import_option(check)
    check.set_defaults(run=_check)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


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
    add_import_option(migrate)
    migrate.set_defaults(run=_migrate)


def _report(arguments: argparse.Namespace) -> int:
    from lightning_automations.cli.report import run_report

    return run_report(arguments.run_dir, output=arguments.output, pictures=arguments.png)


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="show what the automations did in a run, as a page of HTML",
        description="Write one file of HTML, which needs no network, from the journal of a run and the numbers that "
        "Lightning's loggers left beside it. Needs the extra 'report'.",
    )
    report.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of the run, or its journal")
    report.add_argument("--output", type=Path, metavar="FILE", help="the page; else report.html in the run's folder")
    report.add_argument("--png", type=Path, metavar="FOLDER", help="folder for the charts as pictures, too")
    report.set_defaults(run=_report)


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
    add_import_option(schema)
    schema.set_defaults(run=_schema)
    _add_check(commands)
    _add_migrate(commands)
    _add_report(commands)
    return parser
