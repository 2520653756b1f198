"""What the doctor says of a configuration as a whole, and of the one that the project was created from."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_automations.config.analysis.facts import read_facts
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.diagnosis.finding import Diagnosis, Finding, Status

ROOT = Path(__file__).parents[3]
PARAGON = ROOT / "tests" / "config" / "migration" / "paragon.yml"
RECOMMENDED = ROOT / "example_configs" / "seed_recommendation.yml"


def diagnosed(text: str, folder: Path, **told: int) -> Diagnosis:
    """Of a file with this text."""
    path = folder / "c.yml"
    path.write_text(text, encoding="utf-8")
    return diagnose(read_facts(path, **told))


def statuses(diagnosis: Diagnosis) -> dict[str, str]:
    """By the name of the subject."""
    return {subject.name: subject.status.value for subject in diagnosis.subjects}


def findings(diagnosis: Diagnosis, name: str) -> list[Finding]:
    """Of one subject."""
    return [finding for subject in diagnosis.subjects if subject.name == name for finding in subject.findings]


def test_the_findings_of_the_analysis_are_found_on_its_file() -> None:
    """Sections 1 to 5 of the analysis by hand: what each is, and at which line."""
    diagnosis = diagnose(read_facts(PARAGON))
    assert statuses(diagnosis) == {
        "training_automations": "missing",
        "IntelligentLearningRateScheduler": "old style",
        "DynamicBatchSizeOptimizer": "missing",
        "AdaptiveGradientClipping": "partly",
        "IntelligentEarlyStopping": "missing",
        "DynamicLossScheduling": "old style",
    }
    lines = PARAGON.read_text(encoding="utf-8").splitlines()
    places = {subject.name: lines[(subject.findings[0].line or 0) - 1].strip() for subject in diagnosis.subjects}
    assert places["IntelligentLearningRateScheduler"] == "scheduler:"
    assert places["AdaptiveGradientClipping"] == "grad_clip: true"
    assert places["DynamicLossScheduling"] == "dynamic_loss_scheduling:"
    losses = diagnosis.subjects[-1]
    assert "which calibrates itself: good" in losses.present
    assert "l1loss 1, ssimloss 0.05" in losses.present
    assert "[30000, 35000]" in findings(diagnosis, "IntelligentLearningRateScheduler")[0].found


def test_the_recommended_block_cannot_stop_a_run_with_long_epochs() -> None:
    """It asks for 1,000 epochs in 40,000 steps; only a file with few samples can have that."""
    unknown = diagnose(read_facts(RECOMMENDED))
    (finding,) = findings(unknown, "IntelligentEarlyStopping")
    assert (finding.status, finding.note) == (Status.PARTLY, False)
    assert finding.path.endswith("IntelligentEarlyStopping.min_epochs")
    assert "fewer than 40 steps, 640 samples," in finding.why
    many = diagnose(read_facts(RECOMMENDED, samples=147_000))
    assert statuses(many)["IntelligentEarlyStopping"] == "without effect"
    assert diagnose(read_facts(RECOMMENDED, samples=600)).is_sound(strict=True)


@pytest.mark.parametrize("name", ["minimal.yml", "fine_tuning.yml", "super_resolution.yml"])
def test_our_examples_are_sound(name: str) -> None:
    """What we recommend passes our own check, notes included."""
    assert diagnose(read_facts(ROOT / "example_configs" / name)).is_sound(strict=True)


@pytest.mark.parametrize(
    ("text", "status", "path", "line"),
    [
        ("a: 1\n", Status.MISSING, "", 1),
        ("training_automation: {}\n", Status.MISSING, "", 1),
        ("training_automations: {enabled: false}\n", Status.WITHOUT_EFFECT, "training_automations", 1),
        ("training_automations: 3\n", Status.INVALID, "training_automations", 1),
        ("training_automations:\n  early_stoping:\n", Status.INVALID, "training_automations.early_stoping", 2),
        ("trainer: {max_steps: 9}\ntraining_automations:\n", Status.PARTLY, "training_automations", 2),
    ],
)
def test_the_section_as_a_whole(text: str, status: Status, path: str, line: int, tmp_path: Path) -> None:
    """Missing, misspelt, turned off, no mapping, an unknown name in it, or in a file of LightningCLI."""
    (finding,) = findings(diagnosed(text, tmp_path), "training_automations")
    assert (finding.status, finding.path, finding.line) == (status, path, line)


def test_a_misspelt_section_is_told_its_right_name(tmp_path: Path) -> None:
    """The nearest name, as in every other message."""
    (finding,) = findings(diagnosed("training_automation: {}\n", tmp_path), "training_automations")
    assert finding.mend == "Is 'training_automation' meant for it? Then rename it."


def test_a_file_of_lightning_cli_is_not_sent_to_migrate(tmp_path: Path) -> None:
    """Which refuses it."""
    diagnosis = diagnosed("trainer: {max_steps: 9}\n", tmp_path)
    assert {finding.mend.split()[1] for subject in diagnosis.subjects for finding in subject.findings} == {
        "AutomationsCLI"
    }


def test_callbacks_by_class_path_need_no_section(tmp_path: Path) -> None:
    """In a file of LightningCLI they stand in the trainer's list."""
    text = "trainer:\n  callbacks:\n  - class_path: lightning_automations.AdaptiveGradientClipping\n"
    diagnosis = diagnosed(text, tmp_path)
    assert statuses(diagnosis)["training_automations"] == "right"
    assert statuses(diagnosis)["AdaptiveGradientClipping"] == "right"


def test_a_wrong_argument_of_a_callback_is_no_problem_of_a_section(tmp_path: Path) -> None:
    """It belongs to the automation, whose settings it makes invalid."""
    text = (
        "trainer:\n  callbacks:\n  - class_path: lightning_automations.AdaptiveGradientClipping\n"
        "    init_args: {min_threshold: -1}\n"
    )
    diagnosis = diagnosed(text, tmp_path)
    assert statuses(diagnosis)["AdaptiveGradientClipping"] == "invalid"
    (finding,) = findings(diagnosis, "AdaptiveGradientClipping")
    assert (finding.path, finding.line) == ("trainer.callbacks.0.init_args.min_threshold", 4)


def test_a_mapping_has_no_lines() -> None:
    """Nothing was read from a file."""
    diagnosis = diagnose(read_facts({"train": {"grad_clip": 0.5}}))
    (finding,) = findings(diagnosis, "AdaptiveGradientClipping")
    assert (diagnosis.file, finding.line) == (None, None)
