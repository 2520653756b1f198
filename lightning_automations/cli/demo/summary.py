"""What the demo says at its end. Only formatting: every figure comes from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from lightning_automations.cli.demo.model import Quality
from lightning_automations.cli.demo.photographs import Photograph
from lightning_automations.cli.demo.progress import Validation
from lightning_automations.core.decision import Adjustment, Value

__all__ = [
    "Comparison",
    "adjustments_table",
    "introduction",
    "loss_weights",
    "quality_table",
    "saving",
    "show",
    "verdict",
]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that is compared. Both runs start from the same weights and see the same crops in the same order.

    Args:
        bicubic: What bicubic upsampling reaches.
        ours: What the run with automations left.
        ours_validations: Its validations, at least one.
        plain_validations: Those of the run without automations, at least one; it always runs to the end.
        samples_planned: Samples of a run that nothing stops.
        weights_given: Of the terms of the loss, as the module has them.
        weights: The same at the end of the run with automations.
    """

    bicubic: Quality
    ours: Quality
    ours_validations: Sequence[Validation]
    plain_validations: Sequence[Validation]
    samples_planned: int
    weights_given: Mapping[str, float]
    weights: Mapping[str, float]

    @property
    def ours_end(self) -> Validation:
        """Where the run with automations ended."""
        return self.ours_validations[-1]

    @property
    def plain_end(self) -> Validation:
        """Where the run without automations ended."""
        return self.plain_validations[-1]

    @property
    def plain_same_samples(self) -> Validation:
        """The run without automations when it had seen as many samples as the other one at its end."""
        return min(self.plain_validations, key=lambda one: abs(one.samples - self.ours_end.samples))

    @property
    def stopped_early(self) -> bool:
        """Whether the run with automations ended before its planned samples."""
        return self.ours_end.samples < self.samples_planned


def introduction(training: Sequence[Photograph], validation: Sequence[Photograph], bicubic: Quality) -> str:
    """What is about to happen."""
    return (
        f"2x super-resolution. Training on crops of {_names(training)}.\n"
        f"Validation on {_names(validation)}, which are never trained on.\n"
        f"Bicubic upsampling reaches {bicubic.psnr:.2f} dB there. The network starts as bicubic upsampling."
    )


def adjustments_table(adjustments: Iterable[Adjustment]) -> Table:
    """Every adjustment in the order of the steps."""
    table = Table(title="What the automations did", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("step", justify="right")
    table.add_column("automation", no_wrap=True)
    table.add_column("parameter", no_wrap=True)
    for column in ("from", "to"):
        table.add_column(column, justify="right")
    table.add_column("why")
    for change in sorted(adjustments, key=lambda change: change.step):
        values = (change.automation, change.parameter, _short(change.old), _short(change.new))
        table.add_row(str(change.step), *values, str(change.reason).replace("_", " "))
    return table


def quality_table(comparison: Comparison) -> Table:
    """PSNR and SSIM on the unseen photographs, with the gain over bicubic upsampling."""
    table = Table(title="Quality on the unseen photographs", box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in ("PSNR", "gain", "SSIM", "samples", "time"):
        table.add_column(column, justify="right", no_wrap=True)

    def add(name: str, quality: Quality, end: Validation | None) -> None:
        gain = f"{quality.psnr - comparison.bicubic.psnr:+.2f} dB" if end else ""
        cost = (str(end.samples), f"{end.seconds:.0f} s") if end else ("", "")
        table.add_row(name, f"{quality.psnr:.2f} dB", gain, f"{quality.ssim:.4f}", *cost)

    add("bicubic", comparison.bicubic, None)
    same, end = comparison.plain_same_samples, comparison.plain_end
    add("without automations", same.quality, same)
    if comparison.stopped_early:
        add("  the same, to its end", end.quality, end)
    add("with automations", comparison.ours, comparison.ours_end)
    return table


def verdict(comparison: Comparison) -> str:
    """The result in one paragraph, with what was held equal."""
    ours, plain = comparison.ours.psnr, comparison.plain_same_samples.quality.psnr
    best = max(one.quality.psnr for one in comparison.plain_validations)
    return (
        f"With automations: {ours:.2f} dB, {ours - comparison.bicubic.psnr:+.2f} dB against bicubic and "
        f"{ours - plain:+.2f} dB against the same run without them, at the same number of samples. "
        f"The best that the run without them reached at any validation is {best:.2f} dB.\n"
        "Both runs start from the same weights and the same rate and see the same crops in the same order. Nothing was "
        "trained on these photographs, but the automations read the PSNR on them, so it is no test on fresh data."
    )


def saving(comparison: Comparison) -> str:
    """What early stopping saved, in samples and in time."""
    if not comparison.stopped_early:
        return "Early stopping did not end the run: it saved nothing."
    ours, planned, whole = comparison.ours_end, comparison.samples_planned, comparison.plain_end.seconds
    return (
        f"Early stopping ended the run after {ours.samples} of {planned} samples and {ours.seconds:.0f} s: "
        f"{1 - ours.samples / planned:.0%} of the samples saved. The run without automations took {whole:.0f} s to its "
        f"end, for {comparison.plain_end.quality.psnr:.2f} dB."
    )


def loss_weights(comparison: Comparison) -> str:
    """The weights of the terms of the loss, as they were given and at the end."""
    given, end = comparison.weights_given, comparison.weights
    told = ", ".join(f"{name} {weight:.4g} (given: {given[name]:.4g})" for name, weight in end.items())
    return f"Weights of the loss at the end: {told}."


def show(console: Console, comparison: Comparison, adjustments: Sequence[Adjustment], folder: Path) -> None:
    """Print the whole summary.

    Args:
        console: Where to.
        comparison: The figures.
        adjustments: What the automations changed, in any order.
        folder: Where the results are.
    """
    console.print()
    if adjustments:
        console.print(adjustments_table(adjustments))
        console.print("The numbers behind each decision are in the lines above and in the journal, automations.jsonl.")
    else:
        console.print("The automations changed nothing.")
    console.print(quality_table(comparison))
    console.print(verdict(comparison), highlight=False)
    console.print(saving(comparison), highlight=False)
    console.print(loss_weights(comparison), highlight=False)
    console.print(f"\nResults in {folder}", highlight=False, soft_wrap=True)
    for file in sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()):
        console.print(f"  {file}", highlight=False, soft_wrap=True)


def _names(photographs: Iterable[Photograph]) -> str:
    return ", ".join(photograph.name for photograph in photographs)


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
