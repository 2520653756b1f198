"""The ways to train a batch that does not fit: ours, the peers', and none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import BatchSizeFinder
from torch.utils.data import TensorDataset

from benchmarks.batch.jobs import MemoryJob
from benchmarks.batch.training import BatchData, BatchModule, Ledger, LedgerKeeper
from benchmarks.methods import plain
from benchmarks.methods.method import RunSetup
from benchmarks.methods.ours import section
from benchmarks.tables import row_named
from benchmarks.tasks.task import Task
from lightning_automations import build_callbacks
from lightning_automations.callbacks.base import AutomationCallback

__all__ = ["METHODS", "PLAIN", "BatchMethod", "BatchRun", "method_named"]


@dataclass(kw_only=True)
class BatchRun:
    """What a method is handed, and where it leaves its results.

    Args:
        job: What is trained.
        task: Its task.
        training: Its training data.
        seed: Of network and order.
        folder: For what Lightning writes.
        ledger: Counts the samples.
        module: The module that was trained last.
        callbacks: The method's own callbacks of that training.
        restarts: How often training started again from nothing.
    """

    job: MemoryJob
    task: Task
    training: TensorDataset
    seed: int
    folder: Path
    ledger: Ledger
    module: BatchModule | None = None
    callbacks: Sequence[Callback] = ()
    restarts: int = 0

    @property
    def changes(self) -> int:
        """Adjustments of our automations, and restarts."""
        ours = [callback for callback in self.callbacks if isinstance(callback, AutomationCallback)]
        return self.restarts + sum(len(callback.adjustments) for callback in ours)


@dataclass(frozen=True, kw_only=True)
class BatchMethod:
    """A way to train.

    Args:
        name: As it stands in tables and result files.
        source: Where it comes from, with its settings where they are not the shipped defaults.
        train: Trains a run to its end, or raises.
    """

    name: str
    source: str
    train: Callable[[BatchRun], None]


def fit(
    run: BatchRun, *, callbacks: Sequence[Callback] = (), batch_size: int | None = None, max_steps: int = -1
) -> None:
    """Train from the start to the end, as a user's script would."""
    job = run.job
    seed_everything(run.seed, verbose=False)
    run.callbacks = callbacks
    run.module = BatchModule(job, run.task, run.ledger)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=job.epochs,
        max_steps=max_steps,
        callbacks=[*callbacks, LedgerKeeper(run.ledger)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run.folder,
    )
    validation = run.task.splits().validation
    data = BatchData(run.training, validation, seed=run.seed, batch_size=batch_size or job.batch_size)
    trainer.fit(run.module, datamodule=data)


def _finding(run: BatchRun) -> None:
    fit(run, callbacks=(BatchSizeFinder(),))


def _restarting(run: BatchRun) -> None:
    # Here and not above: accelerate is a peer, and whoever has none of the peers can still run the rest.
    from accelerate.utils import find_executable_batch_size

    starts = 0

    @find_executable_batch_size(starting_batch_size=run.job.batch_size)  # type: ignore[untyped-decorator]
    def train(batch_size: int) -> None:
        nonlocal starts
        run.restarts = starts
        starts += 1
        run.ledger.restart()
        fit(run, batch_size=batch_size)

    train()


def _ours(configuration: str, *, alone: str | None = None, **on_section: Any) -> Callable[[BatchRun], None]:
    """All automations of a configuration, or one of them."""

    def train(run: BatchRun) -> None:
        written = {**section(configuration, _setup(run)), **on_section}
        if alone is not None:
            written = {alone: written[alone], "journal": written["journal"]}
        fit(run, callbacks=build_callbacks({"training_automations": written}))

    return train


def _setup(run: BatchRun) -> RunSetup:
    job = run.job
    steps = job.epochs * -(-job.samples // job.batch_size)
    return RunSetup(
        task=run.task,
        optimizer=job.optimizer,
        rate=job.rate,
        cosine_rate=job.rate,
        steps=steps,
        validation_interval=steps // job.epochs,
    )


_ALONE = "DynamicBatchSizeOptimizer"

PLAIN = BatchMethod(name=plain.PLAIN.name, source="Lightning without any callback", train=fit)

# The seed's DynamicBatchSizeOptimizer alone would be a second copy of the defaults' one: the values are the same.
METHODS: tuple[BatchMethod, ...] = (
    PLAIN,
    BatchMethod(
        name="BatchSizeFinder",
        source="Lightning's callback, mode power, as shipped: looks for a batch size and trains with it",
        train=_finding,
    ),
    BatchMethod(
        name="find_executable_batch_size",
        source="of accelerate, as shipped: training starts again with 0.9 of the batch size",
        train=_restarting,
    ),
    BatchMethod(
        name="ours, defaults",
        source="all four automations of benchmarks/configurations/defaults.yml",
        train=_ours("defaults"),
    ),
    BatchMethod(
        name="ours, defaults: batch size alone",
        source=f"{_ALONE} of benchmarks/configurations/defaults.yml",
        train=_ours("defaults", alone=_ALONE),
    ),
    BatchMethod(
        name="ours, seed's block",
        source="all four automations of example_configs/seed_recommendation.yml",
        train=_ours("seed's block"),
    ),
    BatchMethod(
        name="ours, doing nothing",
        source="negative control: all four automations of benchmarks/configurations/defaults.yml with dry_run",
        train=_ours("defaults", dry_run=True),
    ),
)


def method_named(name: str) -> BatchMethod:
    """The method of this name.

    Raises:
        ValueError: If there is none.
    """
    return row_named(name, METHODS)
