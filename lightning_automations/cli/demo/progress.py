"""What the user sees while the demo trains, and the figures it is judged by afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from lightning_automations.cli.demo.model import Quality

__all__ = ["ProgressReport", "Validation"]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One validation on the unseen photographs.

    Args:
        step: Optimizer steps done.
        samples: Training samples seen.
        seconds: Length of the training up to here, all validations included.
        quality: What the weights reached.
    """

    step: int
    samples: int
    seconds: float
    quality: Quality


class ProgressReport(Callback):
    """Draws a progress bar, prints a line per validation, and keeps every validation.

    Args:
        console: Where to print. The bar appears on a terminal only; the lines appear everywhere.
        title: What the run is called.
        samples_planned: Samples of the whole run, the length of the bar.
        bicubic: Quality of bicubic upsampling, for comparison.

    Attributes:
        validations: Every validation so far, oldest first.
    """

    def __init__(self, console: Console, *, title: str, samples_planned: int, bicubic: Quality) -> None:
        self.validations: list[Validation] = []
        self._samples = 0
        self._started = 0.0
        self._bicubic = bicubic
        self._console = console
        columns = (TextColumn(title), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(title, total=samples_planned)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        low, _ = batch
        self._samples += len(low)
        self._bar.update(self._task, completed=self._samples)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        latest = Validation(
            step=trainer.global_step,
            samples=self._samples,
            seconds=time.monotonic() - self._started,
            quality=Quality(psnr=metrics["val/psnr"].item(), ssim=metrics["val/ssim"].item()),
        )
        self.validations.append(latest)
        self._console.print(self._line(latest, rate=trainer.optimizers[0].param_groups[0]["lr"]), highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._bar.stop()

    def _line(self, latest: Validation, *, rate: float) -> str:
        psnr = latest.quality.psnr
        gain = psnr - self._bicubic.psnr
        return f"  step {latest.step:5d}  rate {rate:.1e}  val/psnr {psnr:.2f} dB  against bicubic {gain:+.2f} dB"
