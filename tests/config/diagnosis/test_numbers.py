"""Numbers that some reader takes for texts: read where the program reads them, else told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lightning_automations.config.analysis.facts import read_facts
from lightning_automations.config.diagnosis.finding import Finding
from tests.config.diagnosis.test_diagnosing import diagnosed, findings


def _notes(text: str, folder: Path) -> list[Finding]:
    found = findings(diagnosed(text, folder), "training_automations")
    return [finding for finding in found if finding.note]


def test_lightning_cli_takes_a_number_in_quotes_for_one() -> None:
    """As jsonargparse does."""
    trainer = {"gradient_clip_val": "0.5", "max_steps": "+400", "accumulate_grad_batches": "2"}
    read = read_facts({"trainer": {**trainer, "limit_val_batches": "0.0"}, "data": {"batch_size": "16"}})
    assert read.clip is not None
    assert read.length.steps is not None
    assert (read.clip.value, read.length.steps.value, read.length.samples_per_step) == (0.5, 400, 32)
    assert read.no_validation is not None
    assert read.quoted_numbers == ()


@pytest.mark.parametrize("value", ["often", "1 000", "0x10", "-4", "1" * 40, "inf", "nan"])
def test_what_is_no_number_in_quotes_is_none(value: str) -> None:
    """Nor one that is out of its range."""
    for data in ({"trainer": {"max_steps": value}}, {"train": {"total_iter": value}}):
        read = read_facts(data)
        assert (read.length.steps, read.quoted_numbers) == (None, ())


def test_a_number_in_quotes_elsewhere_is_told_and_not_read(tmp_path: Path) -> None:
    """The program may fail at it, or compare texts."""
    text = 'train:\n  total_iter: "40000"\n  grad_clip: "0.5"\ndatasets: {train: {batch_size_per_gpu: "16"}}\n'
    notes = _notes(f"{text}training_automations:\n", tmp_path)
    assert {(note.path, note.line) for note in notes} == {
        ("train.total_iter", 2),
        ("train.grad_clip", 3),
        ("datasets.train.batch_size_per_gpu", 4),
    }
    assert "Write 40000 without quotes." in {note.mend for note in notes}


@pytest.mark.parametrize(
    ("written", "mend"),
    [
        ("5e3", "5000"),
        ("5.0e3", "5000"),
        ("1e-4", "1.0e-4"),
        ("+.5E-4", "+0.5e-4"),
        ("1_0e-4", "10.0e-4"),
        ("1e30", "1.0e+30"),
    ],
)
def test_a_number_that_yaml_1_1_takes_for_a_text_is_told_in_another_form(
    written: str, mend: str, tmp_path: Path
) -> None:
    """The schema in an editor refuses it; the other form is the same number to every reader."""
    text = f"lr: 1e-3\ntraining_automations:\n  early_stopping: {{improvement_threshold: {written}}}\n"
    (note,) = _notes(text, tmp_path)
    assert (note.path, note.line) == ("training_automations.early_stopping.improvement_threshold", 3)
    assert note.mend == f"Write {mend}."
    assert yaml.safe_load(mend) == pytest.approx(float(written.replace("_", "")))
    assert isinstance(yaml.safe_load(written), str)


@pytest.mark.parametrize("written", ["5000", "5.0e+3", "!!float 5e3", "0.5"])
def test_a_number_that_every_reader_knows_is_not_told(written: str, tmp_path: Path) -> None:
    """Nor one whose tag says what it is."""
    text = f"training_automations:\n  early_stopping: {{improvement_threshold: {written}}}\n"
    assert _notes(text, tmp_path) == []


def test_numbers_of_a_callback_by_class_path_are_ours(tmp_path: Path) -> None:
    """Those of the rest of the file are not."""
    text = "trainer:\n  max_steps: 1e3\n  callbacks:\n  - class_path: lightning_automations.AdaptiveGradientClipping\n"
    (note,) = _notes(f"{text}    init_args: {{max_threshold: 2e1}}\n", tmp_path)
    assert (note.line, note.mend) == (5, "Write 20.")


def test_an_interpolation_that_nothing_fills_in_is_told(tmp_path: Path) -> None:
    """With its line: the clip value of the program is not known."""
    text = "train:\n  total_iter: 40000\n  grad_clip: ${nothing.there}\n  training_automations: {}\n"
    (note,) = _notes(text, tmp_path)
    assert (note.path, note.line) == ("train.grad_clip", 3)
    assert note.found == (
        "train.grad_clip is an interpolation that cannot be resolved (Interpolation key 'nothing.there' not found)"
    )
