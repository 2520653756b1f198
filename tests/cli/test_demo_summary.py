"""What the demo says at its end, on made-up figures."""

import io
from pathlib import Path

from rich.console import Console

from lightning_automations.cli.demo.model import Quality
from lightning_automations.cli.demo.progress import Validation
from lightning_automations.cli.demo.summary import (
    Comparison,
    adjustments_table,
    loss_weights,
    quality_table,
    saving,
    show,
    verdict,
)
from lightning_automations.core.decision import Adjustment, Reason

PLATEAU = Adjustment(
    step=900,
    epoch=4,
    automation="IntelligentLearningRateScheduler",
    parameter="factor",
    old=1.0,
    new=0.5,
    reason=Reason.PLATEAU,
    evidence={"steps_without_improvement": 256},
)
GROWTH = Adjustment(
    step=200,
    epoch=1,
    automation="DynamicBatchSizeOptimizer",
    parameter="batch_size",
    old=4,
    new=8,
    reason=Reason.MEMORY_BELOW_TARGET,
)


def printed(thing: object, *, width: int = 100) -> str:
    """What a terminal of this width would show."""
    stream = io.StringIO()
    Console(file=stream, width=width).print(thing)
    return stream.getvalue()


def validation(samples: int, psnr: float) -> Validation:
    """A validation of a run that takes a second for a hundred samples."""
    return Validation(
        step=samples // 4, samples=samples, seconds=samples / 100, quality=Quality(psnr=psnr, ssim=psnr / 40)
    )


def comparison(*, ours_samples: int = 3000) -> Comparison:
    """A run with automations of this length beside one without that is at its best half-way."""
    return Comparison(
        bicubic=Quality(psnr=30.0, ssim=0.88),
        ours=Quality(psnr=31.5, ssim=0.91),
        ours_validations=[validation(1000, 31.0), validation(ours_samples, 31.4)],
        plain_validations=[validation(samples, 30.0 + gain) for samples, gain in PLAIN_GAINS.items()],
        samples_planned=4000,
        weights_given={"l1": 1.0, "ssim": 0.1},
        weights={"l1": 1.25, "ssim": 0.01234567},
    )


PLAIN_GAINS = {1000: 0.5, 2000: 1.25, 3000: 1.0, 4000: 0.75}


def test_every_adjustment_has_a_row_in_the_order_of_the_steps() -> None:
    """Step, automation, parameter, from, to and why stand in one line, the earliest first."""
    lines = printed(adjustments_table([PLATEAU, GROWTH])).splitlines()
    rows = [line.split() for line in lines if "Intelligent" in line or "Dynamic" in line]
    assert rows == [
        ["200", "DynamicBatchSizeOptimizer", "batch_size", "4", "8", "memory", "below", "target"],
        ["900", "IntelligentLearningRateScheduler", "factor", "1", "0.5", "plateau"],
    ]


def test_names_are_never_cut_on_a_terminal_of_80_columns() -> None:
    """The longest name and its parameter stay readable."""
    shown = printed(adjustments_table([PLATEAU, GROWTH]), width=80)
    assert "IntelligentLearningRateScheduler" in shown
    assert "batch_size" in shown


def test_a_stopped_run_is_compared_at_the_same_number_of_samples_and_with_the_end() -> None:
    """The other run has a row where it had seen as many samples, and one for its end."""
    rows = [" ".join(line.split()) for line in printed(quality_table(comparison())).splitlines()]
    assert rows[-5:-1] == [
        "bicubic 30.00 dB 0.8800",
        "without automations 31.00 dB +1.00 dB 0.7750 3000 30 s",
        "the same, to its end 30.75 dB +0.75 dB 0.7688 4000 40 s",
        "with automations 31.50 dB +1.50 dB 0.9100 3000 30 s",
    ]


def test_a_run_to_the_end_is_compared_with_the_end_alone() -> None:
    """Where nothing was stopped, the other run has one row."""
    assert "to its end" not in printed(quality_table(comparison(ours_samples=4000)))


def test_the_verdict_names_the_other_run_at_its_best() -> None:
    """Whoever kept the best weights by hand would have had those: the reader is told."""
    text = verdict(comparison())
    assert "31.50 dB, +1.50 dB against bicubic and +0.50 dB against the same run without them" in text
    assert "reached at any validation is 31.25 dB" in text


def test_the_saving_is_counted_in_samples_and_seconds() -> None:
    """A quarter of the samples was left when the run was stopped."""
    assert saving(comparison()) == (
        "Early stopping ended the run after 3000 of 4000 samples and 30 s: 25% of the samples saved. "
        "The run without automations took 40 s to its end, for 30.75 dB."
    )


def test_nothing_is_saved_by_a_run_to_the_end() -> None:
    """No stop, no claim."""
    assert saving(comparison(ours_samples=4000)) == "Early stopping did not end the run: it saved nothing."


def test_the_weights_of_the_loss_stand_beside_those_that_were_given() -> None:
    """Whoever adapts the demo sees what its own loss would get."""
    assert loss_weights(comparison()) == (
        "Weights of the loss at the end: l1 1.25 (given: 1), ssim 0.01235 (given: 0.1)."
    )


def test_the_summary_lists_what_lies_in_the_folder(tmp_path: Path) -> None:
    """Folder and files are named, those of sub-folders with their path."""
    journal = tmp_path / "with_automations" / "automations.jsonl"
    journal.parent.mkdir()
    journal.touch()
    stream = io.StringIO()
    show(Console(file=stream, width=100), comparison(), [], tmp_path)
    assert "The automations changed nothing." in stream.getvalue()
    assert stream.getvalue().endswith(f"Results in {tmp_path}\n  {Path('with_automations', 'automations.jsonl')}\n")
