"""What is read out of training configurations of every style, and at which lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lightning_automations.config.analysis.facts import FileKind, TrainingFacts, facts_of, read_facts
from lightning_automations.config.document import read_document
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.errors import ConfigError
from lightning_automations.core.gradient_clipping_settings import GradientClippingSettings

PARAGON = Path(__file__).parents[1] / "migration" / "paragon.yml"
LIGHTNING = """\
seed_everything: 1
trainer:
  max_epochs: 10
  max_steps: 900
  accumulate_grad_batches: 2
  check_val_every_n_epoch: null
  val_check_interval: 50
  gradient_clip_val: 0.5
  precision: bf16-mixed
  callbacks:
    - class_path: lightning_automations.IntelligentEarlyStopping
      init_args: {patience: 0}
    - class_path: lightning.pytorch.callbacks.EarlyStopping
    - class_path: elsewhere.IntelligentEarlyStopping
    - EarlyStopping
    - class_path: lightning_automations.callbacks.AdaptiveGradientClipping
      init_args: {max_threshold: 5.0}
model: {class_path: a.Model}
data:
  init_args:
    batch_size: 8
optimizer:
  class_path: torch.optim.AdamW
  init_args: {lr: 0.001}
lr_scheduler:
  class_path: torch.optim.lr_scheduler.StepLR
  init_args: {step_size: 3}
"""


def facts(text: str, folder: Path, **told: int) -> TrainingFacts:
    """About a file with this text."""
    path = folder / "c.yml"
    path.write_text(text, encoding="utf-8")
    return read_facts(path, **told)


def place(fact: Any) -> tuple[Any, str, int | None]:
    """Value, path and line of a fact."""
    return (fact.value, fact.path, fact.line)


def test_the_file_of_the_analysis() -> None:
    """Every number that the analysis found by hand, each at the line of its key."""
    read = read_facts(PARAGON)
    assert (read.kind, read.base, read.section, read.automations, read.problems) == (
        FileKind.PROJECT, (), None, (), (),
    )  # fmt: skip
    assert (read.auto_vram_management, read.stoppers) == (None, ())
    assert (read.length.samples_per_step, read.length.epochs, read.length.steps_per_epoch) == (16, None, None)
    (optimizer,) = read.optimizers
    assert read.scheduler is not None
    assert read.scheduler.arguments == {"milestones": [30_000, 35_000], "gamma": 0.5}
    assert [(term.type, term.weight, term.path) for term in read.loss_terms] == [
        ("l1loss", 1.0, "train.losses.0"),
        ("ssimloss", 0.05, "train.losses.1"),
    ]
    lines = PARAGON.read_text(encoding="utf-8").splitlines()
    for fact, value, path in [
        (read.length.steps, 40_000, "train.total_iter"),
        (read.length.batch_size, 16, "datasets.train.batch_size_per_gpu"),
        (read.length.accumulation, 1, "datasets.train.accum_iter"),
        (optimizer.type, "AdamW", "train.optim_g.type"),
        (optimizer.rate, 0.0002, "train.optim_g.lr"),
        (read.scheduler.type, "MultiStepLR", "train.scheduler"),
        (read.clip, True, "train.grad_clip"),
        (read.metrics, ("val/psnr", "val/ssim"), "val.metrics"),
        (read.validation_steps, 1000, "val.val_freq"),
        (read.dynamic_loss_scheduling, {"enabled": True, "auto_calibrate": True}, "train.dynamic_loss_scheduling"),
        (read.warmup_steps, 1000, "train.warmup_iter"),
        (read.mixed_precision, "bf16", "use_amp"),
    ]:
        assert fact is not None
        assert (fact.value, fact.path) == (value, path)
        assert lines[(fact.line or 0) - 1].split(":")[0].strip() == path.rpartition(".")[2]


@pytest.mark.parametrize("under", ["", "fit"])
def test_a_file_of_lightning_cli(under: str, tmp_path: Path) -> None:
    """The same facts at the root and under `fit`, one line lower there."""
    text = f"fit:\n{''.join(f'  {line}' for line in LIGHTNING.splitlines(True))}" if under else LIGHTNING
    before, below = (f"{under}.", 1) if under else ("", 0)
    read = facts(text, tmp_path)
    assert (read.kind, read.base) == (FileKind.LIGHTNING_CLI, (under,) if under else ())
    assert place(read.length.steps) == (900, f"{before}trainer.max_steps", 4 + below)
    assert place(read.length.epochs) == (10.0, f"{before}trainer.max_epochs", 3 + below)
    assert place(read.length.batch_size) == (8, f"{before}data.init_args.batch_size", 21 + below)
    assert read.length.samples_per_step == 16
    assert place(read.clip) == (0.5, f"{before}trainer.gradient_clip_val", 8 + below)
    assert place(read.validation_steps) == (25, f"{before}trainer.val_check_interval", 7 + below)
    assert place(read.mixed_precision) == ("bf16-mixed", f"{before}trainer.precision", 9 + below)
    (optimizer,) = read.optimizers
    assert place(optimizer.type) == ("AdamW", f"{before}optimizer.class_path", 23 + below)
    assert place(optimizer.rate) == (0.001, f"{before}optimizer.init_args.lr", 24 + below)
    assert place(read.scheduler.type) == ("StepLR", f"{before}lr_scheduler", 25 + below)
    assert (read.scheduler.arguments, read.scheduler.arguments_path) == (
        {"step_size": 3}, f"{before}lr_scheduler.init_args",
    )  # fmt: skip
    assert [place(stopper)[:2] for stopper in read.stoppers] == [
        ("lightning.pytorch.callbacks.EarlyStopping", f"{before}trainer.callbacks.1.class_path"),
        ("EarlyStopping", f"{before}trainer.callbacks.3"),
    ]
    stopping, clipping = read.automations
    assert (stopping.kind, stopping.settings, stopping.by_class_path) == (EarlyStoppingSettings, None, True)
    assert (clipping.path, clipping.written) == (
        f"{before}trainer.callbacks.4.init_args", {"max_threshold": 5.0},
    )  # fmt: skip
    assert clipping.settings == GradientClippingSettings(max_threshold=5.0)
    (problem,) = read.problems
    assert (problem.path, problem.line) == (f"{before}trainer.callbacks.0.init_args.patience", 12 + below)


def test_a_section_of_a_subcommand_is_read_where_it_stands(tmp_path: Path) -> None:
    """LightningCLI writes everything of a fit under its name."""
    text = "fit:\n  trainer: {max_steps: 900}\n  training_automations:\n    early_stopping: {patience: 0}\n"
    read = facts(text, tmp_path)
    assert read.section is not None
    assert (read.section.path, read.section.line, read.hint) == ("fit.training_automations", 3, None)
    assert [(problem.path, problem.line) for problem in read.problems] == [
        ("fit.training_automations.early_stopping.patience", 4)
    ]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a: 1\n", FileKind.BARE),
        ("training_automations:\n", FileKind.BARE),
        ("train: {lr: 1}\n", FileKind.BARE),
        ("train: {optim_d: {lr: 1}}\n", FileKind.PROJECT),
        ("train: {losses: []}\n", FileKind.PROJECT),
        ("datasets: {train: {}}\n", FileKind.PROJECT),
        ("datasets: {}\n", FileKind.BARE),
        ("trainer:\n", FileKind.LIGHTNING_CLI),
        ("model: {}\ndata: {}\n", FileKind.LIGHTNING_CLI),
        ("model: {}\n", FileKind.BARE),
        ("fit: {trainer: {}}\n", FileKind.LIGHTNING_CLI),
        ("fit: {model: 1}\n", FileKind.BARE),
    ],
)
def test_the_family_of_a_file(text: str, kind: FileKind, tmp_path: Path) -> None:
    """By its own keys, whatever they hold."""
    assert facts(text, tmp_path).kind is kind


@pytest.mark.parametrize(
    ("callbacks", "path"),
    [
        ("{class_path: lightning_automations.AdaptiveGradientClipping}", "trainer.callbacks.init_args"),
        ("lightning_automations.AdaptiveGradientClipping", "trainer.callbacks.init_args"),
        ("[1, lightning_automations.AdaptiveGradientClipping]", "trainer.callbacks.1.init_args"),
    ],
)
def test_a_callback_may_stand_alone_and_without_arguments(callbacks: str, path: str, tmp_path: Path) -> None:
    """LightningCLI takes one callback in the place of a list, and a class path in the place of a mapping."""
    (automation,) = facts(f"trainer:\n  callbacks: {callbacks}\n", tmp_path).automations
    assert (automation.kind, automation.path, automation.written) == (GradientClippingSettings, path, {})


@pytest.mark.parametrize("callbacks", ["[]", "{}", "3", "EarlyStoppings"])
def test_what_is_no_callback_of_ours_is_none(callbacks: str, tmp_path: Path) -> None:
    """Nor another stopper."""
    read = facts(f"trainer:\n  callbacks: {callbacks}\n", tmp_path)
    assert (read.automations, read.stoppers) == ((), ())


def test_an_empty_section_asks_for_all(tmp_path: Path) -> None:
    """Each stands where the section does; all of them are off where the section is."""
    read = facts("a: 1\ntraining_automations:\n", tmp_path)
    assert [(one.path, one.enabled, one.settings == one.kind()) for one in read.automations] == [
        ("training_automations", True, True)
    ] * 4
    assert read.section is not None
    assert read.section.line == 2
    off = facts("training_automations: {enabled: false}\n", tmp_path)
    assert [one.enabled for one in off.automations] == [False] * 4


def test_automations_that_the_section_names(tmp_path: Path) -> None:
    """Under either name, valid or not; the one that will be built comes first."""
    read = facts(
        "train:\n  training_automations:\n    early_stopping: {enabled: false}\n"
        "    IntelligentEarlyStopping: {patience: 7}\n    gradient_clipping: {min_threshold: -1}\n",
        tmp_path,
    )
    built = read.automation(EarlyStoppingSettings)
    assert built is not None
    assert (built.path, built.written) == ("train.training_automations.IntelligentEarlyStopping", {"patience": 7})
    (unknown,) = [problem for problem in read.problems if problem.line == 5]
    assert "gradient_clipping" in unknown.path
    assert read.line("train.training_automations.early_stopping.nothing") == 3


def test_an_automation_that_is_turned_off_is_told_of_where_none_is_on(tmp_path: Path) -> None:
    """And nothing where the file has none."""
    read = facts("training_automations: {early_stopping: {enabled: false}}\n", tmp_path)
    off = read.automation(EarlyStoppingSettings)
    assert off is not None
    assert not off.enabled
    assert read.automation(GradientClippingSettings) is None


def test_the_whole_file_stands_at_its_first_line(tmp_path: Path) -> None:
    """A mapping that came from no file has no lines."""
    assert facts("a: 1\n", tmp_path).line("") == 1
    assert read_facts({"a": 1}).line("a") is None


def test_a_document_with_faults_and_no_section_keeps_them(tmp_path: Path) -> None:
    """A repeated key is told with its line, beside the nearest name of the section."""
    read = facts("a: 1\na: 2\ntraining_automation:\n", tmp_path)
    assert [(problem.path, problem.line) for problem in read.problems] == [("a", 2)]
    assert "training_automation" in (read.hint or "")


def test_what_the_caller_asks_about_settings_is_asked(tmp_path: Path) -> None:
    """As in training: torch is asked for the arguments of its schedulers."""
    asked: list[str] = []

    def check(settings: Any, path: str) -> list[Any]:
        asked.append(path)
        return []

    path = tmp_path / "c.yml"
    path.write_text("training_automations:\n  early_stopping: {patience: 3}\n", encoding="utf-8")
    assert read_facts(path, checks={EarlyStoppingSettings: check}).problems == ()
    assert asked == ["training_automations.early_stopping"]


@pytest.mark.parametrize("source", [{"train": {"total_iter": "${n}"}, "n": 40}, {"train": {"total_iter": 40}}])
def test_a_dictconfig_is_read_as_a_file_is(source: dict[str, Any]) -> None:
    """Interpolations are followed."""
    for given_source in (source, OmegaConf.create(source)):
        steps = read_facts(given_source).length.steps
        assert steps is not None
        assert place(steps) == (40, "train.total_iter", None)


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    """No file, no mapping."""
    for source in (tmp_path / "nowhere.yml", 3):
        with pytest.raises(ConfigError):
            read_facts(source)


KEYS = [
    "train", "trainer", "fit", "datasets", "data", "val", "model", "optimizer", "lr_scheduler", "scheduler", "use_amp",
    "total_iter", "optim_g", "losses", "grad_clip", "metrics", "val_freq", "callbacks", "class_path", "init_args",
    "training_automations", "AdaptiveGradientClipping", "early_stopping", "type", "lr", "enabled", "max_steps",
    "check_val_every_n_epoch", "val_check_interval", "auto_vram_management", "dynamic_loss_scheduling", "val_enabled",
]  # fmt: skip
JUNK = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=3)
    | st.text(max_size=4)
    | st.sampled_from(
        ["", "${train}", "${nowhere}", "${", "???", "${train.lr}", "a.", "lightning_automations.x", 10**400]
    )
    | st.sampled_from(KEYS)
)
CONFIGURATIONS = st.dictionaries(
    st.sampled_from(KEYS) | st.integers(0, 2),
    st.recursive(
        JUNK, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_size=6,
)


@given(data=CONFIGURATIONS, samples=st.none() | st.integers(1), steps=st.none() | st.integers(1))
def test_nothing_that_a_file_may_hold_raises(data: dict[Any, Any], samples: int | None, steps: int | None) -> None:
    """Values of wrong types are as if they were not there."""
    read = facts_of(read_document(data), samples=samples, steps=steps)
    assert read.length.steps is None or read.length.steps.value >= 0
    assert all(problem.path for problem in read.problems)


@pytest.mark.parametrize("value", [None, True, 3, -1, 0.5, "x", "", [], [1], {}, {"a": 1}, float("nan"), 10**400, b"x"])
def test_a_value_of_another_kind_at_any_place_is_as_if_it_were_not_there(value: Any) -> None:
    """Every place that is read, one after the other."""
    whole = {
        "use_amp": True,
        "train": {
            "total_iter": 9,
            "optim_g": {"type": "A", "lr": 1.0},
            "scheduler": {"type": "S"},
            "losses": [{"type": "l", "loss_weight": 1}],
        },
        "val": {"val_freq": 3, "metrics": {"psnr": {}}},
        "trainer": {"callbacks": [{"class_path": "EarlyStopping", "init_args": {}}], "check_val_every_n_epoch": None},
        "datasets": {"train": {"batch_size_per_gpu": 4}},
        "lr_scheduler": {"class_path": "a.B", "init_args": {}},
    }
    for path in _paths(whole):
        read = facts_of(read_document(_replaced(whole, path, value)))
        assert read.section is None
        assert read.problems == ()


def _paths(value: Any) -> list[tuple[Any, ...]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path for key in keys for path in ((key,), *((key, *more) for more in _paths(value[key])))]


def _replaced(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], other)
    return copy
