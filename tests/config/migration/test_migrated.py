"""A migrated file passes ``check``, whatever it held, and holds all that it held before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_automations.config.analysis.facts import read_facts
from lightning_automations.config.diagnosis.diagnosing import diagnose
from lightning_automations.config.migration.migrating import migrated
from lightning_automations.config.names import SECTION
from lightning_automations.config.yaml_tree import YamlTree
from lightning_automations.core.errors import ConfigError

PARAGON = Path(__file__).with_name("paragon.yml")


def rewritten(text: str, name: str = "c.yml") -> str:
    """The new text; the file of this name is the new one afterwards."""
    path = Path(name)
    path.write_text(text, encoding="utf-8", newline="")
    new = migrated(text, name)
    path.write_text(new, encoding="utf-8", newline="")
    return new


def remaining_findings(name: str = "c.yml") -> list[str]:
    """What `check` would have mended, notes not counted."""
    subjects = diagnose(read_facts(Path(name))).subjects
    return [f"{one.path}: {one.found}" for subject in subjects for one in subject.findings if not one.note]


def section_of(text: str) -> Any:
    """The section, wherever it stands."""
    data = YamlTree(text).data
    return data["train"][SECTION] if SECTION in data.get("train", {}) else data[SECTION]


def test_the_file_of_the_analysis_passes_check_afterwards() -> None:
    """And gives its own numbers to the automations."""
    new = rewritten(PARAGON.read_text(encoding="utf-8"))
    assert diagnose(read_facts(Path("c.yml"))).is_sound()
    section = section_of(new)
    assert section["IntelligentLearningRateScheduler"]["fallback"] == {
        "scheduler_type": "multistep",
        "scheduler_params": {"milestones": [30_000, 35_000], "gamma": 0.5},
    }
    assert section["AdaptiveGradientClipping"]["initial_threshold"] == 1.0
    assert section["DynamicBatchSizeOptimizer"]["fallback"] == {"batch_size": 16}
    assert section["IntelligentEarlyStopping"]["monitor_metric"] == "val/psnr"


@pytest.mark.parametrize(
    ("scheduler", "fallback"),
    [
        ("", {"scheduler_type": "cosine", "scheduler_params": {"eta_min": 1e-5, "T_max": 4000}}),
        (
            "{type: CosineAnnealingLR, T_max: 9, eta_min: 1e-7}",
            {"scheduler_type": "cosine", "scheduler_params": {"eta_min": 1e-7, "T_max": 4000}},
        ),
        (
            "{type: CosineAnnealingLR, eta_min: 0.1}",
            {"scheduler_type": "cosine", "scheduler_params": {"eta_min": 1e-5, "T_max": 4000}},
        ),
        ("{type: StepLR, step_size: 7}", {"scheduler_type": "step", "scheduler_params": {"step_size": 7}}),
        (
            "{type: torch.optim.lr_scheduler.StepLR, step_size: 7, gamma: 0.3, last_epoch: -1}",
            {"scheduler_type": "step", "scheduler_params": {"step_size": 7, "gamma": 0.3}},
        ),
        ("{type: ExponentialLR, gamma: 0.99}", {"scheduler_type": "exponential", "scheduler_params": {"gamma": 0.99}}),
        (
            "{type: multistep, milestones: [5, 4000]}",
            {"scheduler_type": "multistep", "scheduler_params": {"milestones": [5, 4000]}},
        ),
        # none that a fallback may be: without what it needs, with what is wrong, too late, or of another kind
        ("{type: MultiStepLR}", None),
        ("{type: MultiStepLR, milestones: [4000, 5000]}", None),
        ("{type: MultiStepLR, milestones: often}", None),
        ("{type: MultiStepLR, milestones: []}", None),
        ("{type: StepLR, step_size: 7, gamma: 3}", None),
        ("{type: StepLR, step_size: 4000}", None),
        ("{type: CosineAnnealingLR, eta_min: .inf}", None),
        ("{type: OneCycleLR, max_lr: 1}", None),
    ],
)
def test_a_scheduler_becomes_the_fallback_with_its_own_numbers(scheduler: str, fallback: Any) -> None:
    """The recommended cosine stands in for one that a fallback cannot be; a horizon is that of the run."""
    written = f"  scheduler: {scheduler}\n" if scheduler else ""
    new = rewritten(f"train:\n  total_iter: 4000\n  optim_g: {{lr: 2e-4}}\n{written}")
    cosine = {"scheduler_type": "cosine", "scheduler_params": {"eta_min": 1e-5, "T_max": 4000}}
    assert section_of(new)["IntelligentLearningRateScheduler"]["fallback"] == fallback or (
        fallback is None and section_of(new)["IntelligentLearningRateScheduler"]["fallback"] == cosine
    )
    assert remaining_findings() == []


def test_without_a_length_a_rate_and_a_batch_only_what_is_known_is_written() -> None:
    """The rest is fitted when training starts."""
    section = section_of(rewritten("a: 1\n"))
    assert section["IntelligentLearningRateScheduler"]["fallback"] == {"scheduler_type": "cosine"}
    assert not {"patience", "min_epochs", "monitor_metric"} & section["IntelligentEarlyStopping"].keys()
    assert "plateau_patience" not in section["IntelligentLearningRateScheduler"]
    assert section["DynamicBatchSizeOptimizer"]["fallback"] == {"batch_size": 16}
    assert remaining_findings() == []


@pytest.mark.parametrize(
    ("clip", "threshold", "bounds", "left"),
    [
        ("true", 1.0, (0.1, 10.0), False),
        ("0.5", 0.5, (0.05, 10.0), None),
        ("0.003", 0.003, (0.0003, 10.0), None),
        ("40", 40.0, (0.1, 400.0), None),
    ],
)
def test_a_clip_value_becomes_the_initial_threshold(clip: str, threshold: float, bounds: Any, left: Any) -> None:
    """Its bounds leave room for it; the program clips no more."""
    new = rewritten(f"train:\n  grad_clip: {clip}  # was right\n  total_iter: 4000\n")
    clipping = section_of(new)["AdaptiveGradientClipping"]
    assert (clipping["initial_threshold"], clipping["fallback"]) == (threshold, {"threshold": threshold})
    assert (clipping["min_threshold"], clipping["max_threshold"]) == bounds
    assert YamlTree(new).data["train"]["grad_clip"] is left
    assert remaining_findings() == []


@pytest.mark.parametrize(
    ("steps", "between", "patience"),
    [
        (40_000, 1000, 2000),  # the recommended one
        (40_000, 2000, 10_000),  # five validations: the recommended one would be over at the first
        (40_000, 10_000, 20_000),  # as many as leave room for others
        (4000, 100, 1200),
    ],
)
def test_a_patience_is_never_over_at_a_single_validation(steps: int, between: int, patience: int) -> None:
    """The recommended one is kept where it is not."""
    stopping = section_of(rewritten(f"train:\n  total_iter: {steps}\nval:\n  val_freq: {between}\n"))[
        "IntelligentEarlyStopping"
    ]
    assert (stopping.get("patience"), stopping.get("max_no_improvement")) == (patience, patience)
    assert remaining_findings() == []


@pytest.mark.parametrize(
    ("val", "enabled", "metric"),
    [
        ("{metrics: {ssim: 1, psnr: 2}}", True, "val/psnr"),
        ("{metrics: {ssim: 1, lpips: 2}}", True, "val/ssim"),
        ("{metrics: {}}", False, None),
        ("{val_enabled: false, metrics: {psnr: 2}}", False, None),
        ("{}", True, None),
    ],
)
def test_a_metric_is_watched_only_where_it_is_computed(val: str, enabled: bool, metric: str | None) -> None:
    """A stopper that nothing is judged by is written, and turned off."""
    stopping = section_of(rewritten(f"val: {val}\n"))["IntelligentEarlyStopping"]
    assert (stopping["enabled"], stopping.get("monitor_metric")) == (enabled, metric)
    assert remaining_findings() == []


@pytest.mark.parametrize(
    ("memory", "left"),
    [
        ("auto_vram_management: true  # old\n", "auto_vram_management: false  # old\n"),
        (
            "auto_vram_management:\n  enabled: true  # old\n  every: 3\n",
            "auto_vram_management:\n  enabled: false  # old\n  every: 3\n",
        ),
        ("auto_vram_management: {every: 3, enabled: true}\n", "auto_vram_management: {every: 3, enabled: false}\n"),
        ("auto_vram_management: {every: 3}\n", "auto_vram_management: {every: 3, enabled: false}\n"),
        ("auto_vram_management:\n  every: 3\n", "auto_vram_management:\n  every: 3\n  enabled: false\n"),
        ("train:\n  auto_vram_management: true\n", "train:\n  auto_vram_management: false\n"),
        ("auto_vram_management: false\n", "auto_vram_management: false\n"),
    ],
)
def test_memory_has_one_owner(memory: str, left: str) -> None:
    """The older choice of a batch size is turned off where it stands."""
    assert rewritten(memory).startswith(left)
    assert remaining_findings() == []


def test_a_clip_value_that_a_merge_brings_is_overridden_where_it_lands() -> None:
    """The other place that has it keeps it."""
    new = rewritten("x: &x {grad_clip: 2}\ntrain:\n  <<: *x\n  a: 1\n")
    assert new.startswith("x: &x {grad_clip: 2}\ntrain:\n  <<: *x\n  a: 1\n  grad_clip: null\n")
    assert remaining_findings() == []


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (13_000, "validation comes every 13000 steps, and the run has 40000"),
        (39_000, "validation comes every 39000 steps, and the run has 40000"),
        (40_000, "validation comes every 40000 steps, and the run has 40000"),
        (50_000, "no validation falls into the run: val.val_freq is 50000 and the run has 40000 steps"),
    ],
)
def test_where_validation_is_too_rare_the_stopper_is_turned_off_and_says_why(between: int, reason: str) -> None:
    """A patience that can hardly be over is worse than none: it looks as if the run were watched."""
    new = rewritten(f"train:\n  total_iter: 40000\nval:\n  val_freq: {between}\n")
    stopping = section_of(new)["IntelligentEarlyStopping"]
    assert not {"patience", "max_no_improvement"} & stopping.keys()
    assert stopping["enabled"] is False
    assert f"    # Turned off: {reason}.\n    IntelligentEarlyStopping:\n" in new
    assert remaining_findings() == []


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9, 11, 99, 100, 101])
def test_a_very_short_run_still_has_decisions(steps: int) -> None:
    """Intervals that the run is shorter than become 1."""
    rewritten(f"train:\n  total_iter: {steps}\n  grad_clip: 0.5\n")
    assert remaining_findings() == []


@pytest.mark.parametrize("text", ["a: |+\n  text\n", "train:\n  a: |+\n    text\n\n\n", "train:\n  a: |\n    text\n"])
def test_a_text_at_the_end_keeps_its_blank_lines(text: str) -> None:
    """The section follows at once: a blank line would belong to the text."""
    new = rewritten(text)
    assert new.startswith(f"{text}  # Training" if "train" in text else f"{text}# Training")
    assert remaining_findings() == []


def test_a_scheduler_of_any_name_ends_no_comment() -> None:
    """What the file calls it stands in a remark of one line."""
    new = rewritten('train:\n  scheduler: {type: "a\\nb: 1"}\n')
    assert "# Fallback: a?b: 1 with these arguments" in new


@pytest.mark.parametrize(
    ("text", "line", "got"),
    [
        ("trainer:\n  max_steps: 9\n", None, "a file of LightningCLI"),
        ("fit:\n  trainer:\n    max_steps: 9\n", None, "a file of LightningCLI"),
        ("trainer:\n", None, "a file of LightningCLI"),
        ("a: 1\nx: &x {every: 3}\nauto_vram_management: *x\n", 3, "one that stands elsewhere, or none"),
        ("a: &a [1]\nb: {c: 1}\ntrain: &t\n  lr: 1\nother: *t\n", None, "one where that changes others"),
        ("train:\n  grad_clip: &g true\nother: *g\n", None, "one where that changes others"),
        ("val:\n  metrics: {'${b}': 1}\n", None, "one where that changes others"),
    ],
)
def test_a_file_that_cannot_be_changed_safely_is_refused(text: str, line: int | None, got: str) -> None:
    """With what stands in the way, and its line where it has one."""
    with pytest.raises(ConfigError) as caught:
        rewritten(text)
    (problem,) = caught.value.problems
    assert (problem.got, problem.line, problem.file) == (got, line, "c.yml")


def test_callbacks_in_a_list_are_to_be_changed_there() -> None:
    """A file of LightningCLI that has them needs no section."""
    with pytest.raises(ConfigError, match="change them there"):
        rewritten("trainer:\n  callbacks: [{class_path: lightning_automations.IntelligentEarlyStopping}]\n")


def test_a_section_that_an_interpolation_brings_is_no_missing_one() -> None:
    """It is not written a second time."""
    text = "train: ${other}\nother:\n  training_automations:\n"
    assert rewritten(text) == text


def test_a_list_a_key_in_brackets_and_documents_marks_stay() -> None:
    """The layout knows all of YAML; the section goes before the end of the document."""
    text = "%YAML 1.1\n---\n? [1, 2]\n: a\nb:\n- 1\n- - 2\n  - 3\nc: |\n  text\n...\n"
    Path("c.yml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        migrated(text, "c.yml")  # a list as a key is no configuration of ours
    plain = text.replace("? [1, 2]\n: a\n", "? 7\n: a\n")
    new = rewritten(plain)
    assert new.startswith(plain.removesuffix("...\n"))
    assert new.endswith("\n...\n")
    assert section_of(new)["enabled"] is True


def _quoted(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from([name, f"'{name}'", f'"{name}"'])


def _or_nothing(lines: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.just("") | lines


COMMENT = st.sampled_from(["", "  # why", "  #", "  # true: {}"])
SCHEDULERS = st.sampled_from(
    [
        "  scheduler:\n    type: MultiStepLR\n    milestones: [30, 3500]  # by hand\n    gamma: 0.5\n",
        "  scheduler: {type: CosineAnnealingLR, T_max: 100}\n",
        "  scheduler:\n    type: 'StepLR'\n    step_size: 50\n",
        "  scheduler:\n    type: CosineAnnealingRestartLR\n    periods: [5]\n",
    ]
)
VALIDATION = st.sampled_from(
    ["  metrics:\n    ssim: {type: a}\n    psnr: {type: b}\n", "  metrics: {lpips: 1}\n", "  val_enabled: false\n"]
)
FOREIGN = st.sampled_from(
    [
        "name: a # b\n",
        "path: &path\n  root: 'x'\n  other: ~\nagain: *path\n",
        "merged:\n  <<: {a: 1}\n  b: 2\n",
        "list:\n- a\n-   b   # c\n",
        "text: >-\n  folded\n\n  text\n",
        "odd: !!float 2e-4\n\n\n# a comment of its own\n",
        "interpolated: ${name}\n",
        "tabs: \"\\t\"\n",
    ]
)  # fmt: skip


@st.composite
def _files(draw: st.DrawFn) -> str:
    """A configuration in the project's style."""
    clip = draw(_or_nothing(st.sampled_from(["true", "false", "0.01", "1.0", "100", "~"])))
    steps = draw(st.integers(100, 10**6))
    train = [
        f"  {draw(_quoted('total_iter'))}: {steps}{draw(COMMENT)}\n",
        draw(_or_nothing(SCHEDULERS)),
        f"  grad_clip: {clip}{draw(COMMENT)}\n" if clip else "",
        draw(_or_nothing(st.just("  optim_g: &optim\n    type: AdamW\n    lr: !!float 2e-4  # tuned\n"))),
        draw(_or_nothing(st.just("  losses:\n  - {type: a}\n  - type: b\n    loss_weight: 0.1\n"))),
        draw(_or_nothing(st.just("  # the end of a block\n"))),
    ]
    batch = draw(st.integers(1, 128))
    accumulation = draw(st.integers(1, 8))
    data = f"datasets:\n  train:\n    batch_size_per_gpu: {batch}{draw(COMMENT)}\n    accum_iter: {accumulation}\n"
    between = draw(_or_nothing(st.integers(1, 2 * 10**5).map(lambda number: f"  val_freq: {number}\n")))
    val = f"val:\n  save_img: false\n{between}{draw(_or_nothing(VALIDATION))}"
    parts = ["train:\n" + "".join(draw(st.permutations(train))), data, val, *draw(st.sets(FOREIGN))]
    text = "".join(draw(st.permutations(parts)))
    text = text.removesuffix("\n") if draw(st.booleans()) else text
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


@settings(max_examples=40)
@given(text=_files())
def test_a_migrated_file_is_sound_and_holds_all_that_it_held(text: str) -> None:
    """No finding; a second run changes nothing; every line but the clip's stays, in its order and with its comment."""
    new = rewritten(text)
    assert diagnose(read_facts(Path("c.yml"))).is_sound(), remaining_findings()
    assert migrated(new, "c.yml") == new
    remaining = iter(new.splitlines(keepends=True))
    ends = ("\r\n", "\n", "")
    for line in text.splitlines():
        kept = _without_clip(line)
        assert any(_without_clip(other) in (kept + end for end in ends) for other in remaining), line
    before, after = (YamlTree(one).data for one in (text, new))
    after["train"].pop(SECTION)
    for data in (before, after):
        data["train"].pop("grad_clip", None)
    assert repr(after) == repr(before)
    assert ("\r\n" in new) == ("\r\n" in text)
    assert new.count("\n") == new.count("\r\n") or "\r\n" not in text


def _without_clip(line: str) -> str:
    """The line with no clip value in it, but with its comment."""
    if not line.startswith("  grad_clip:"):
        return line
    return line.replace(line[len("  grad_clip:") :].split("#")[0].strip() or "~", "", 1)


def test_the_section_is_read_alike_by_yaml_1_1() -> None:
    """PyYAML takes 1e-05 for a text; numbers are written out."""
    new = rewritten("train:\n  total_iter: 4000\n  optim_g: {lr: 1.0e-7}\n")
    assert repr(yaml.safe_load(new)["train"][SECTION]) == repr(section_of(new))
