"""Trains the same network twice, with and without automations, and compares the two."""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console

import lightning_automations
from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.cli.demo import summary
from lightning_automations.cli.demo.model import Quality, SuperResolution, UpscalingNetwork, measure
from lightning_automations.cli.demo.photographs import (
    TRAINING,
    VALIDATION,
    ImagePair,
    as_pairs,
    training_loader,
    upscale_bicubic,
    validation_loader,
)
from lightning_automations.cli.demo.picture import save_comparison
from lightning_automations.cli.demo.progress import ProgressReport, Validation
from lightning_automations.factory import build_callbacks

__all__ = ["FAST", "FULL", "Recipe", "example_config", "run"]

_LIGHTNING_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
"""The loggers of both namespaces: the one that was imported last prints for both."""
_WIDTH_OF_FILES = 100


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the demo trains. The file with the automations changes none of this.

    Args:
        epochs: Epochs, each followed by a validation.
        crops_per_epoch: Training samples per epoch.
        batch_size: Samples per step at the start.
        learning_rate: Constant rate of AdamW. The default is too high on purpose: the automations are to have work.
        crop_pixels: Side of a training crop in pixels of the original.
        channels: Width of the network.
        blocks: Residual blocks of the network.
        seed: For the initial weights and the order of the crops.
    """

    epochs: int
    crops_per_epoch: int
    batch_size: int = 4
    learning_rate: float = 3e-3
    crop_pixels: int = 48
    channels: int = 16
    blocks: int = 4
    seed: int = 1

    @property
    def samples(self) -> int:
        """Training samples of a run that nothing stops."""
        return self.epochs * self.crops_per_epoch


FULL = Recipe(epochs=24, crops_per_epoch=1024)
FAST = Recipe(epochs=2, crops_per_epoch=1024)


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What both runs share."""

    recipe: Recipe
    training: Sequence[ImagePair]
    unseen: Sequence[ImagePair]
    bicubic: Quality
    network: UpscalingNetwork
    folder: Path
    console: Console


def run(config: Path | None, recipe: Recipe, output: Path | None) -> None:
    """Train, compare, print the summary and leave the results in a folder.

    Args:
        config: YAML file with the automations; None: the example that comes with the package.
        recipe: How to train.
        output: Folder for the results; None: a new one under ``runs``.

    Raises:
        ConfigError: If the file cannot be used. Nothing is trained then, except where the file names a metric that
            turns out not to be logged.
    """
    automations = build_callbacks(config if config is not None else example_config())
    folder = output if output is not None else _new_folder(Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S"))
    setting = _prepare(recipe, folder)
    setting.console.print(summary.introduction(TRAINING, VALIDATION, setting.bicubic), highlight=False)

    with _quiet_lightning():
        trained, ours = _train(setting, "with automations", automations)
        untouched, plain = _train(setting, "without automations", [])
    save_comparison(folder / "comparison.png", trained, setting.unseen)
    comparison = summary.Comparison(
        bicubic=setting.bicubic,
        ours=measure(trained, setting.unseen),
        ours_validations=ours,
        plain_validations=plain,
        samples_planned=recipe.samples,
        weights_given=untouched.loss_weights,
        weights=trained.loss_weights,
    )
    changes = [change for one in automations if isinstance(one, AutomationCallback) for change in one.adjustments]
    summary.show(setting.console, comparison, changes, folder)


def example_config() -> Path:
    """The demo's automations: beside the code in an installed package, in the root of the repository in a clone."""
    package = Path(lightning_automations.__file__).parent
    relative = Path("example_configs") / "super_resolution.yml"
    installed = package / relative
    return installed if installed.exists() else package.parent / relative


def _new_folder(wanted: Path) -> Path:
    """A folder of this name, or of this name and a number where another demo took it in the same second."""
    folder, number = wanted, 1
    while not _created(folder):
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _created(folder: Path) -> bool:
    """Whether the folder was made here and now, which two programs cannot both be told of the same one."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _prepare(recipe: Recipe, folder: Path) -> _Setting:
    # Two threads on two cores that other programs use, too, wait for each other most of the time: a run took 81 s
    # instead of 10 s.
    torch.set_num_threads(1)
    seed_everything(recipe.seed, verbose=False)
    unseen = as_pairs(VALIDATION)
    return _Setting(
        recipe=recipe,
        training=as_pairs(TRAINING),
        unseen=unseen,
        bicubic=measure(upscale_bicubic, unseen),
        network=UpscalingNetwork(channels=recipe.channels, blocks=recipe.blocks),
        folder=folder,
        console=_console(),
    )


def _train(setting: _Setting, title: str, callbacks: list[Callback]) -> tuple[SuperResolution, list[Validation]]:
    """Train a copy of the network; returns it as the run left it, and every validation."""
    recipe, console = setting.recipe, setting.console
    console.print(f"\n[bold]{title}[/bold], {recipe.samples} samples at most", highlight=False)
    report = ProgressReport(console, title=title, samples_planned=recipe.samples, bicubic=setting.bicubic)
    trainer = Trainer(
        # The same figures everywhere, whatever accelerator the machine has.
        accelerator="cpu",
        # Epochs and not steps: with a larger batch an epoch has fewer steps and still the same samples.
        max_epochs=recipe.epochs,
        callbacks=[*callbacks, report],
        logger=CSVLogger(setting.folder, name="", version=title.replace(" ", "_")),
        log_every_n_steps=10,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = SuperResolution(copy.deepcopy(setting.network), learning_rate=recipe.learning_rate)
    loader = training_loader(
        setting.training,
        crop_pixels=recipe.crop_pixels,
        crops_per_epoch=recipe.crops_per_epoch,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
    )
    trainer.fit(module, loader, validation_loader(setting.unseen))
    return module, report.validations


def _console() -> Console:
    """The terminal as it is; in a file or a pipe, wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_OF_FILES)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave the screen to the demo, and put everything back behind it."""
    levels = {name: logging.getLogger(name).level for name in _LIGHTNING_LOGGERS}
    with warnings.catch_warnings():
        # Cutting a crop takes less time than handing it over from another process.
        warnings.filterwarnings("ignore", message="The '.*' does not have many workers")
        warnings.filterwarnings("ignore", message="GPU available but not used")
        # Lightning 2.6 calls what torch 2.13 has deprecated.
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
        try:
            for name in levels:
                logging.getLogger(name).setLevel(logging.WARNING)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
