"""The small pieces that the facts about a training configuration are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from lightning_automations.core.settings import AutomationSettings

__all__ = ["Fact", "FileKind", "LossTerm", "Optimizer", "Scheduler", "WrittenAutomation"]

T = TypeVar("T")


class FileKind(Enum):
    """The family of programs that a file is written for."""

    PROJECT = "project"
    """``datasets``, ``train`` with ``optim_*`` and ``total_iter``, ``val``: the trainers of image restoration."""
    LIGHTNING_CLI = "lightning_cli"
    """``trainer``, ``model``, ``data``: LightningCLI, also with the settings under ``fit``."""
    BARE = "bare"
    """Nothing of either: our section alone, or a file that we know nothing about."""


@dataclass(frozen=True, kw_only=True)
class Fact(Generic[T]):
    """One thing that a file says.

    Args:
        value: What it says, as plain Python.
        path: Dotted path of the setting, or the option of the command line that said it.
        line: Line of the setting, counted from 1; None where no file was read.
    """

    value: T
    path: str
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer of the file.

    Args:
        path: Dotted path of its mapping.
        type: Name of its class, where it is written.
        rate: The learning rate, where it is written.
    """

    path: str
    type: Fact[str] | None
    rate: Fact[float] | None


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """The learning-rate scheduler of the file, ours not counted.

    Args:
        type: Name of its class without the modules, for example ``MultiStepLR``; its path is that of the mapping.
        arguments: Its arguments under their own names, without the type.
        arguments_path: Dotted path of the mapping that holds the arguments.
    """

    type: Fact[str]
    arguments: Mapping[str, Any]
    arguments_path: str


@dataclass(frozen=True, kw_only=True)
class LossTerm:
    """A term of the loss and its weight, where one is written."""

    type: str
    weight: float | None
    path: str


@dataclass(frozen=True, kw_only=True)
class WrittenAutomation:
    """An automation of ours as the file asks for it.

    Args:
        kind: Its settings class.
        path: Dotted path of its settings; that of the section where an empty section builds all.
        written: The settings that are written for it.
        settings: The settings that hold, defaults included; None where they are not valid.
        enabled: Whether it will be built: neither it nor the section is turned off.
        by_class_path: Whether it stands in ``trainer.callbacks`` instead of our section.
    """

    kind: type[AutomationSettings]
    path: str
    written: Mapping[str, Any]
    settings: AutomationSettings | None
    enabled: bool
    by_class_path: bool = False
