"""A diagnosis as JSON and as Markdown."""

from __future__ import annotations

import json
from pathlib import Path

from lightning_automations.config.analysis.facts import read_facts
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.diagnosis.output import Unreadable, as_json, as_markdown, verdict
from lightning_automations.core.errors import Problem
from tests.config.diagnosis.test_diagnosing import PARAGON, diagnosed

KEYS = {"status", "path", "line", "found", "why", "mend", "note", "change"}


def test_json_has_a_stable_form() -> None:
    """Programs read it: a key that is renamed is a new version."""
    unreadable = Unreadable(file="b.yml", problems=(Problem(path="", expected="a file", got="nothing", file="b.yml"),))
    told = json.loads(json.dumps(as_json([diagnose(read_facts(PARAGON)), unreadable], strict=False)))
    assert told["version"] == 1
    first, second = told["files"]
    assert (first["file"], first["readable"], first["sound"]) == (str(PARAGON), True, False)
    assert all(set(subject) == {"name", "status", "present", "findings"} for subject in first["subjects"])
    assert all(set(finding) == KEYS for subject in first["subjects"] for finding in subject["findings"])
    assert second == {
        "file": "b.yml",
        "readable": False,
        "problems": [{"path": "", "expected": "a file", "got": "nothing", "hint": None, "line": None}],
    }


def test_strict_counts_notes_against_a_file(tmp_path: Path) -> None:
    """The same file is sound, or is not."""
    diagnosis = diagnosed("training_automations:\n  early_stopping: {enabled: false}\n", tmp_path)
    assert [as_json([diagnosis], strict=strict)["files"][0]["sound"] for strict in (False, True)] == [True, False]


def test_markdown_says_all_of_it_once() -> None:
    """A heading for each subject, and every finding with its line, path and remedy."""
    diagnosis = diagnose(read_facts(PARAGON))
    text = as_markdown(diagnosis, change="+added")
    for number, subject in enumerate(diagnosis.subjects, start=1):
        assert f"## {number}. {subject.name}: {subject.status.value}\n" in text
        for finding in subject.findings:
            assert text.count(f"  **Fix**: {finding.mend}\n") >= 1
            assert text.lower().count(finding.found.lower()) == 1
    assert "- **Issue** (line 44, `train.grad_clip`): Gradients are clipped" in text
    assert text.endswith("## Recommended change\n\n```diff\n+added\n```\n")


def test_a_sound_file_of_no_name_has_nothing_to_mend() -> None:
    """A mapping has neither file nor lines."""
    text = as_markdown(diagnose(read_facts({"training_automations": {"AdaptiveGradientClipping": {"dry_run": True}}})))
    assert text.startswith("# Training automations in `the configuration`\n\n0 findings and 4 notes.\n")
    assert "- **Note** (`training_automations.AdaptiveGradientClipping.dry_run`): Dry_run is true." in text
    assert "diff" not in text


def test_the_verdict_counts(tmp_path: Path) -> None:
    """Findings and notes apart, in the singular and the plural."""
    assert verdict(diagnosed("training_automations:\n", tmp_path)) == "Nothing to mend."
    one = "training_automations:\n  early_stopping: {max_adjustments: 0}\n"
    assert verdict(diagnosed(one, tmp_path)) == "1 finding and 3 notes."
