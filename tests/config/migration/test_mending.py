"""A section that is there is mended in place, or the file is refused and left as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_automations.cli.main import main
from lightning_automations.config.analysis.facts import read_facts
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.migration.migrating import migrated
from lightning_automations.core.errors import ConfigError
from tests.config.migration.test_migrated import remaining_findings, rewritten, section_of

TRAPS = """\
train:
  total_iter: 40000   # steps
  grad_clip: 0.5      # was right
  training_automations:
    learning_rate_scheduler:
      plateau_patience: 50000
      fallback: {scheduler_type: "cosine", scheduler_params: {T_max: 30000}}
    batch_size_optimizer: {max_batch_size: 8, adjustment_frequency: 20}   # of 16
    AdaptiveGradientClipping:
      max_adjustments: 5
    early_stopping:
      min_epochs: 1000
      patience: 10
datasets:
  train: {batch_size_per_gpu: 16}
val: {val_freq: 500, metrics: {psnr: {type: x}}}
"""


def test_the_values_of_a_section_that_is_there_are_mended() -> None:
    """All at once, each in its place; comments, quotes and braces stay, and a second time there is nothing to do."""
    new = rewritten(TRAPS)
    assert remaining_findings() == []
    expected = TRAPS
    for old, mended in (
        ("grad_clip: 0.5 ", "grad_clip: null "),
        ("plateau_patience: 50000", "plateau_patience: 8000"),
        ("T_max: 30000", "T_max: 40000"),
        ("max_batch_size: 8, adjustment_frequency: 20", "max_batch_size: 16, adjustment_frequency: 50"),
        ("      max_adjustments: 5\n", "      max_adjustments: null\n      initial_threshold: 0.5\n"),
        ("min_epochs: 1000", "min_epochs: 0"),
        ("patience: 10\n", "patience: 2500\n"),
    ):
        expected = expected.replace(old, mended)
    assert new == expected
    assert rewritten(new) == new


def test_an_empty_list_in_brackets_is_replaced_where_it_stands() -> None:
    """In its place, as a number would be."""
    text = TRAPS.replace("      patience: 10\n", "      patience: 2500\n      criteria: []  # none\n")
    assert '      criteria: "all"  # none\n' in rewritten(text)


@pytest.mark.parametrize(
    ("clipping", "mended"),
    [
        ("", " {initial_threshold: 0.5}"),
        ("  # why", " {initial_threshold: 0.5}  # why"),
        (" ~", " {initial_threshold: 0.5}"),
        (" null  # why", " {initial_threshold: 0.5}  # why"),
        (" {}", " {initial_threshold: 0.5}"),
        (" {max_threshold: 5.0}  # why", " {max_threshold: 5.0, initial_threshold: 0.5}  # why"),
        (
            "\n      max_threshold: 5.0  # why\n      # end",
            "\n      max_threshold: 5.0  # why\n      initial_threshold: 0.5\n      # end",
        ),
        (" {initial_threshold: 2.0}", " {initial_threshold: 2.0}"),
    ],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_the_clip_value_lives_on_as_the_threshold_to_start_from(clipping: str, mended: str, end: str) -> None:
    """Whatever the automation's settings look like; one that is written there already holds."""
    text = f"train:\n  grad_clip: 0.5\n  training_automations:\n    AdaptiveGradientClipping:{clipping}{end}"
    new = rewritten(text)
    assert new == text.replace("0.5", "null", 1).replace(f"Clipping:{clipping}", f"Clipping:{mended}")
    assert remaining_findings() == []
    assert rewritten(new) == new


COUNTS = st.integers(0, 50).map(lambda number: int(10 ** (number / 10)))
SECTIONS = st.fixed_dictionaries(
    {
        "IntelligentEarlyStopping": st.dictionaries(
            st.sampled_from(["patience", "max_no_improvement", "warmup_iterations", "min_iterations", "min_epochs"]),
            COUNTS,
        )
    },
    optional={
        "IntelligentLearningRateScheduler": st.dictionaries(
            st.sampled_from(["plateau_patience", "max_adjustments"]), COUNTS
        ),
        "DynamicBatchSizeOptimizer": st.dictionaries(
            st.sampled_from(["adjustment_frequency", "max_adjustments"]), COUNTS
        ),
        "AdaptiveGradientClipping": st.dictionaries(
            st.sampled_from(["monitoring_frequency", "max_adjustments"]), COUNTS
        ),
    },
)


@settings(max_examples=60)
@given(section=SECTIONS, steps=COUNTS, between=COUNTS, clip=st.sampled_from([None, True, 0.5, 50]))
def test_a_section_with_any_counts_is_mended_at_once(section: Any, steps: int, between: int, clip: Any) -> None:
    """No advice is left that has a value, and none of it leads into another trap: a second run changes nothing."""
    train = {"total_iter": steps, "grad_clip": clip, "training_automations": section}
    new = rewritten(yaml.safe_dump({"train": train, "val": {"val_freq": between}}, sort_keys=False))
    assert diagnose(read_facts(Path("c.yml"))).changes() == ()
    assert migrated(new, "c.yml") == new


def test_a_clip_value_that_the_program_chooses_gives_no_threshold() -> None:
    """There is no number to keep."""
    new = rewritten("train:\n  grad_clip: true\n  training_automations:\n    AdaptiveGradientClipping:\n")
    assert section_of(new) == {"AdaptiveGradientClipping": None}


def test_a_value_that_is_not_written_is_added_to_its_automation() -> None:
    """The default would be wrong in this run."""
    text = "datasets: {train: {batch_size_per_gpu: 64}}\ntraining_automations:\n  batch_size_optimizer:\n"
    assert rewritten(text) == text.replace("optimizer:", "optimizer: {max_batch_size: 64}")
    assert remaining_findings() == []


@pytest.mark.parametrize(
    ("clipping", "mended"),
    [
        ("", " {initial_threshold: 0.5, monitoring_frequency: 1}"),
        (" {method: log_quantiles}", " {method: log_quantiles, initial_threshold: 0.5, monitoring_frequency: 1}"),
        (
            "\n      method: log_quantiles",
            "\n      method: log_quantiles\n      initial_threshold: 0.5\n      monitoring_frequency: 1",
        ),
    ],
)
def test_several_values_of_one_automation_are_added_together(clipping: str, mended: str) -> None:
    """In the order in which they are found."""
    text = "train:\n  grad_clip: 0.5\n  total_iter: 10\n  training_automations:\n"
    text += f"    AdaptiveGradientClipping:{clipping}\n"
    assert rewritten(text) == text.replace("0.5", "null", 1).replace(f"Clipping:{clipping}", f"Clipping:{mended}")
    assert remaining_findings() == []


def test_an_older_automation_with_settings_of_its_own_is_turned_off_inside() -> None:
    """Its other settings stay."""
    text = "auto_vram_management:\n  every: 3\ntraining_automations: {batch_size_optimizer: }\n"
    assert rewritten(text) == text.replace("every: 3", "every: 3\n  enabled: false")
    other = "auto_vram_management: {enabled: true}\ntraining_automations: {batch_size_optimizer: }\n"
    assert rewritten(other) == other.replace("true", "false")


ELSEWHERE = "one that stands elsewhere: an alias, << or an interpolation brings it"


@pytest.mark.parametrize(
    ("text", "line", "got"),
    [
        (
            "a: &many 1000\ntrain:\n  total_iter: 4000\n  training_automations:\n    early_stopping:\n"
            "      min_epochs: *many\n",
            6,
            ELSEWHERE,
        ),
        (
            "x: &a\n  training_automations:\n    early_stopping: {min_epochs: 1000}\n"
            "train:\n  <<: *a\n  total_iter: 4000\n",
            3,
            ELSEWHERE,
        ),
        (
            "x: &a\n  early_stopping: {min_epochs: 1000}\ntrain:\n  total_iter: 4000\ntraining_automations: *a\n",
            2,
            ELSEWHERE,
        ),
        (
            "train:\n  total_iter: 4000\nx: &a {min_epochs: 1000}\ntraining_automations:\n"
            "  early_stopping:\n    <<: *a\n    patience: 9\n",
            3,
            ELSEWHERE,
        ),
        (
            'train: {total_iter: 4000}\nx: {min_epochs: 1000}\ntraining_automations: {early_stopping: "${x}"}\n',
            3,
            ELSEWHERE,
        ),
        (
            "datasets: {train: {batch_size_per_gpu: 64}}\ntraining_automations:\n  enabled: true\n",
            2,
            "a section that names no automations",
        ),
        (
            "train:\n  grad_clip: 0.5\n  training_automations:\n",
            3,
            "a section that names no automations",
        ),
        (
            "train:\n  grad_clip: 50\n  training_automations:\n    AdaptiveGradientClipping: {max_threshold: 10}\n",
            4,
            "50.0",
        ),
        (
            "x: &c {skip_nonfinite: zero}\ntrain:\n  grad_clip: 0.5\n  training_automations:\n"
            "    AdaptiveGradientClipping: *c\n",
            5,
            ELSEWHERE,
        ),
    ],
)
def test_a_value_that_cannot_be_written_where_it_belongs_is_refused(text: str, line: int, got: str) -> None:
    """Others may use it, or it would turn other automations off; the message has the value to write."""
    Path("c.yml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        migrated(text, "c.yml")
    (problem,) = caught.value.problems
    assert (problem.got, problem.line, problem.file) == (got, line, "c.yml")
    assert main(["migrate", "c.yml", "--in-place"]) == 2
    assert Path("c.yml").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    "fallback",
    [
        "{scheduler_type: linear}",
        "{scheduler_type: cosine, scheduler_params: {T_max: '40000'}}",
    ],
)
def test_a_fallback_that_training_would_refuse_is_refused(fallback: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As check calls it invalid; nothing is written."""
    text = "train: {total_iter: 4000}\ntraining_automations:\n"
    text += f"  learning_rate_scheduler: {{plateau_patience: 9000, fallback: {fallback}}}\n"
    Path("c.yml").write_text(text, encoding="utf-8")
    assert main(["migrate", "c.yml", "--in-place"]) == 2
    assert "c.yml:3" in capsys.readouterr().err
    assert Path("c.yml").read_text(encoding="utf-8") == text


def test_a_section_of_a_subcommand_is_mended_where_it_stands() -> None:
    """All else of the file of LightningCLI stays."""
    text = "fit:\n  trainer: {max_steps: 4000}  # short\n  training_automations:\n    early_stopping:\n"
    text += "      patience: 5000\n      max_no_improvement: 6000\n"
    assert rewritten(text) == text.replace("5000", "800")
    assert remaining_findings() == []
