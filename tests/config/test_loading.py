"""From a section to settings: which automations are built, with what, and the message for each kind of mistake."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_automations.config.loading import load_settings
from lightning_automations.config.names import AUTOMATIONS
from lightning_automations.core.early_stopping_settings import EarlyStoppingSettings
from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.loss_scheduling_settings import LossSchedulingSettings

SECTION = "training_automations"
LOSSES = LossSchedulingSettings.automation
FOUR = [
    "IntelligentLearningRateScheduler",
    "DynamicBatchSizeOptimizer",
    "AdaptiveGradientClipping",
    "IntelligentEarlyStopping",
]


def _loaded(section: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(automation.automation, written) for automation, written in load_settings({SECTION: section})]


def _told(text: str) -> str:
    """The message for a file `c.yml` with this text."""
    Path("c.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings("c.yml")
    return str(caught.value)


@pytest.mark.parametrize("source", [{SECTION: {}}, {"train": {SECTION: {}}}, {"train": {SECTION: None}, "val": 1}])
def test_an_empty_section_names_all(source: Any) -> None:
    """At the root or under train, an empty section builds the four with their defaults."""
    for given in (source, OmegaConf.create(source)):
        assert [(automation.automation, written) for automation, written in load_settings(given)] == [
            (name, {}) for name in FOUR
        ]


def test_keys_of_the_section_name_no_automation() -> None:
    """`enabled: true` alone still means all four."""
    assert [name for name, _ in _loaded({"enabled": True})] == FOUR


@pytest.mark.parametrize("name", list(AUTOMATIONS))
def test_a_section_that_names_one_builds_that_one(name: str) -> None:
    """Under each of its names; an empty value means defaults."""
    for value in (None, {}, {"enabled": True}):
        assert _loaded({name: value}) == [(AUTOMATIONS[name].automation, value or {})]


def test_only_what_is_written_is_passed_on() -> None:
    """What is not written may be fitted to the run later, even where the default is the same value."""
    assert _loaded({"early_stopping": {"patience": 2000}}) == [("IntelligentEarlyStopping", {"patience": 2000})]


@pytest.mark.parametrize(
    "section",
    [
        {"enabled": False},
        {"enabled": False, "early_stopping": {"enabled": True}},
        {name: {"enabled": False} for name in FOUR},
    ],
)
def test_what_is_disabled_is_not_built(section: Any) -> None:
    """`enabled: false` on the section or on every automation leaves nothing."""
    assert _loaded(section) == []


def test_one_disabled_automation_leaves_the_others_that_are_named() -> None:
    """The section names two: the one that is on is built."""
    assert _loaded({"early_stopping": {"enabled": False}, "AdaptiveGradientClipping": None}) == [
        ("AdaptiveGradientClipping", {})
    ]


def test_a_disabled_section_is_checked_all_the_same() -> None:
    """A mistake is told when it is made, not when the section is turned on again."""
    with pytest.raises(ConfigError):
        _loaded({"enabled": False, "early_stopping": {"patience": -1}})


def test_journal_and_dry_run_of_the_section_hold_for_all() -> None:
    """An automation that writes its own keeps it; `enabled` is not inherited."""
    section = {
        "enabled": True,
        "journal": False,
        "dry_run": True,
        "early_stopping": {"dry_run": False},
        "AdaptiveGradientClipping": {"journal": "a.jsonl"},
        "batch_size_optimizer": None,
    }
    assert _loaded(section) == [
        ("IntelligentEarlyStopping", {"journal": False, "dry_run": False}),
        ("AdaptiveGradientClipping", {"journal": "a.jsonl", "dry_run": True}),
        ("DynamicBatchSizeOptimizer", {"journal": False, "dry_run": True}),
    ]
    assert _loaded({"dry_run": True}) == [(name, {"dry_run": True}) for name in FOUR]


def test_the_older_place_of_loss_scheduling_is_read() -> None:
    """Beside the section, with what the section has for all; values that are not ours are left alone."""
    older = {"enabled": True, "momentum": 0.5, "history": 7}
    source = {"train": {"dynamic_loss_scheduling": older, SECTION: {"early_stopping": None, "journal": False}}}
    assert load_settings(source) == [
        (EarlyStoppingSettings, {"journal": False}),
        (LossSchedulingSettings, {"journal": False, "enabled": True, "momentum": 0.5}),
    ]


@pytest.mark.parametrize(
    ("older", "section", "built"),
    [
        ({"enabled": True}, None, [*FOUR, LOSSES]),
        (True, {"enabled": True}, [*FOUR, LOSSES]),
        ({"enabled": False}, None, FOUR),
        (False, None, FOUR),
        ({"enabled": True}, {"enabled": False}, []),
        ({"momentum": 0.1}, {LOSSES: {"momentum": 0.2}}, [LOSSES]),
        ({"momentum": 0.1}, {"dynamic_loss_scheduling": {"enabled": False}, "early_stopping": None}, FOUR[-1:]),
    ],
)
def test_the_section_decides_over_the_older_place(older: object, section: object, built: list[str]) -> None:
    """Where it names loss scheduling or is turned off; else both hold."""
    source = {"train": {"dynamic_loss_scheduling": older}, SECTION: section}
    assert [kind.automation for kind, _ in load_settings(source)] == built
    if built == [LOSSES]:
        assert load_settings(source)[0][1] == {"momentum": 0.2}


def test_the_older_place_needs_no_section() -> None:
    """Its name nearly right, the section is missed all the same."""
    assert _loaded_from({"train": {"dynamic_loss_scheduling": {"shares": "even"}}}) == [(LOSSES, {"shares": "even"})]
    assert _loaded_from({"dynamic_loss_scheduling": True}) == [(LOSSES, {"enabled": True})]
    with pytest.raises(ConfigError, match="Is 'training_automation' meant for it"):
        load_settings({"dynamic_loss_scheduling": True, "training_automation": {}})


def test_wrong_values_in_the_older_place_are_told_at_their_line() -> None:
    """As everywhere."""
    told = _told("train:\n  dynamic_loss_scheduling:\n    momentum: 7\n")
    assert told.startswith("c.yml:3: train.dynamic_loss_scheduling.momentum: expected")


def _loaded_from(source: dict[str, object]) -> list[tuple[str, dict[str, object]]]:
    return [(kind.automation, written) for kind, written in load_settings(source)]


SETTINGS_OF_CLIPPING = (
    "enabled, max_adjustments, fallback, on_error, dry_run, journal, report, progress_bar, "
    "initial_threshold, min_threshold, max_threshold, "
    "adjustment_factor, monitoring_frequency, gradient_history_size, method, skip_nonfinite, lost_after_steps"
)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        # unknown keys
        (
            "  AdaptiveGradientCliping:\n    min_threshold: 1",
            "c.yml:2: training_automations.AdaptiveGradientCliping: expected an automation or a setting of "
            "training_automations, got the unknown name 'AdaptiveGradientCliping'. "
            "Did you mean 'AdaptiveGradientClipping'?",
        ),
        (
            "  enabeld: true",
            "c.yml:2: training_automations.enabeld: expected an automation or a setting of training_automations, got "
            "the unknown name 'enabeld'. Did you mean 'enabled'?",
        ),
        (
            "  zzz: true",
            "c.yml:2: training_automations.zzz: expected an automation or a setting of training_automations, got the "
            "unknown name 'zzz'. Known names: IntelligentLearningRateScheduler, DynamicBatchSizeOptimizer, "
            "AdaptiveGradientClipping, IntelligentEarlyStopping, DynamicLossScheduling, enabled, journal, dry_run, "
            "report, progress_bar. One of your own has to be registered first: import its module, or name it to the "
            "command with --import MODULE.",
        ),
        (
            "  early_stopping:\n    patiense: 1",
            "c.yml:3: training_automations.early_stopping.patiense: expected a setting of IntelligentEarlyStopping, "
            "got the unknown name 'patiense'. Did you mean 'patience'?",
        ),
        (
            "  AdaptiveGradientClipping:\n    zzz: 1",
            "c.yml:3: training_automations.AdaptiveGradientClipping.zzz: expected a setting of "
            f"AdaptiveGradientClipping, got the unknown name 'zzz'. Known names: {SETTINGS_OF_CLIPPING}.",
        ),
        (
            "  early_stopping:\n    fallback:\n      early_stoping: true",
            "c.yml:4: training_automations.early_stopping.fallback.early_stoping: expected one of early_stopping, got "
            "'early_stoping'. Did you mean 'early_stopping'?",
        ),
        # wrong types
        (
            "  dry_run: 1",
            "c.yml:2: training_automations.dry_run: expected true or false, got 1 (int).",
        ),
        (
            "  journal:",
            "c.yml:2: training_automations.journal: expected true or false or a text, got null.",
        ),
        (
            "  early_stopping:\n    patience: long",
            "c.yml:3: training_automations.early_stopping.patience: expected a whole number at least 1, got 'long' "
            "(str).",
        ),
        (
            "  learning_rate_scheduler:\n    fallback: cosine",
            "c.yml:3: training_automations.learning_rate_scheduler.fallback: expected a mapping, got 'cosine' (str).",
        ),
        # ranges
        (
            "  DynamicBatchSizeOptimizer:\n    target_vram_usage: 1.5",
            "c.yml:3: training_automations.DynamicBatchSizeOptimizer.target_vram_usage: expected a number above 0 and "
            "at most 1, got 1.5 (float).",
        ),
        (
            "  batch_size_optimizer:\n    min_batch_size: 64\n    max_batch_size: 32",
            "c.yml:3: training_automations.batch_size_optimizer.min_batch_size: expected at most max_batch_size (32), "
            "got 64. Lower min_batch_size or raise max_batch_size.",
        ),
        # values that are no mappings
        (
            "  AdaptiveGradientClipping: false",
            "c.yml:2: training_automations.AdaptiveGradientClipping: expected a mapping of settings, or nothing for "
            "the defaults, got false. Write 'enabled: false' below it to turn it off.",
        ),
        (
            "  AdaptiveGradientClipping: true",
            "c.yml:2: training_automations.AdaptiveGradientClipping: expected a mapping of settings, or nothing for "
            "the defaults, got true. Leave the value empty to take the defaults.",
        ),
        (
            "  AdaptiveGradientClipping: [threshold]",
            "c.yml:2: training_automations.AdaptiveGradientClipping: expected a mapping of settings, or nothing for "
            "the defaults, got a list.",
        ),
        (
            "  AdaptiveGradientClipping: 1.0",
            "c.yml:2: training_automations.AdaptiveGradientClipping: expected a mapping of settings, or nothing for "
            "the defaults, got 1.0 (float).",
        ),
        # names
        (
            "  early_stopping:\n  IntelligentEarlyStopping:",
            "c.yml:3: training_automations.IntelligentEarlyStopping: expected one entry for IntelligentEarlyStopping, "
            "got a second one beside 'training_automations.early_stopping' (line 2).",
        ),
        (
            "  DynamicLossScheduling:\n    momentum: 1.5",
            "c.yml:3: training_automations.DynamicLossScheduling.momentum: expected a number at least 0 and below 1, "
            "got 1.5 (float).",
        ),
        (
            "  1: {}",
            "c.yml:2: training_automations.1: expected a text as the key, got 1 (int).",
        ),
        (
            "  early_stopping:\n    on: true",
            "c.yml:3: training_automations.early_stopping.True: expected a text as the key, got True (bool). "
            "YAML reads on, off, yes and no as true and false: put the key in quotes.",
        ),
        (
            "  early_stopping:\n    patience: 1\n    patience: 2",
            "c.yml:4: training_automations.early_stopping.patience: expected each key once, got it again after line 3.",
        ),
    ],
)
def test_a_mistake_in_the_section_has_one_message(section: str, message: str) -> None:
    """File, line, path, what was expected, what came, and what to do; nothing else."""
    assert _told(f"training_automations:\n{section}\n") == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: {lr: 1}",
            "c.yml: training_automations: expected this section at the root of the document or under 'train', got a "
            "document without it. An empty 'training_automations:' builds all automations with their defaults.",
        ),
        (
            "train: {training_automation: {}}",
            "c.yml: training_automations: expected this section at the root of the document or under 'train', got a "
            "document without it. Is 'training_automation' meant for it? Then rename it.",
        ),
        (
            "automations: {}\n1: 2\ntrain: 3",
            "c.yml: training_automations: expected this section at the root of the document or under 'train', got a "
            "document without it. Is 'automations' meant for it? Then rename it.",
        ),
        (
            "training_automations: {}\ntrain:\n  training_automations: {}",
            "c.yml:3: train.training_automations: expected one section in a document, got a second one beside "
            "'training_automations' (line 1).",
        ),
        (
            "a: 1\ntraining_automations: false",
            "c.yml:2: training_automations: expected a mapping of settings, or nothing for the defaults, got false. "
            "Write 'enabled: false' below it to turn it off.",
        ),
        (
            "train:\n  training_automations: [AdaptiveGradientClipping]",
            "c.yml:2: train.training_automations: expected a mapping of settings, or nothing for the defaults, got a "
            "list.",
        ),
    ],
)
def test_a_mistake_about_the_section_has_one_message(text: str, message: str) -> None:
    """No section, two sections, a section of another kind."""
    assert _told(text) == message


def test_mistakes_in_a_mapping_have_no_line() -> None:
    """What came from a program is named by its path."""
    with pytest.raises(ConfigError) as caught:
        load_settings({SECTION: {"early_stopping": None, "intelligent_early_stopping": None}})
    assert str(caught.value) == (
        "training_automations.intelligent_early_stopping: expected one entry for IntelligentEarlyStopping, got a "
        "second one beside 'training_automations.early_stopping'."
    )
    with pytest.raises(ConfigError) as caught:
        load_settings({SECTION: {}, "train": {SECTION: {}}})
    assert str(caught.value) == (
        "train.training_automations: expected one section in a document, got a second one beside "
        "'training_automations'."
    )


def test_every_mistake_is_said_at_once_in_the_order_of_the_file() -> None:
    """Of the document, the section and each automation; merged values by the line where they are written."""
    text = """\
base: &base
  patience: -1
other: 1
other: 2
train:
  training_automations:
    jornal: x
    AdaptiveGradientClipping:
      max_threshold: 0
      min_threshhold: 1
    IntelligentEarlyStopping:
      <<: *base
      mode: best
    DynamicLossScheduling: 3
    dry_run: "no"
"""
    assert _told(text) == (
        "8 problems in the configuration:\n"
        "  c.yml:2: train.training_automations.IntelligentEarlyStopping.patience: expected a whole number at least 1, "
        "got -1 (int).\n"
        "  c.yml:4: other: expected each key once, got it again after line 3.\n"
        "  c.yml:7: train.training_automations.jornal: expected an automation or a setting of training_automations, "
        "got the unknown name 'jornal'. Did you mean 'journal'?\n"
        "  c.yml:9: train.training_automations.AdaptiveGradientClipping.max_threshold: expected a number above 0 and "
        "finite, got 0 (int).\n"
        "  c.yml:10: train.training_automations.AdaptiveGradientClipping.min_threshhold: expected a setting of "
        "AdaptiveGradientClipping, got the unknown name 'min_threshhold'. Did you mean 'min_threshold'?\n"
        "  c.yml:13: train.training_automations.IntelligentEarlyStopping.mode: expected one of 'auto', 'min', 'max', "
        "got 'best' (str).\n"
        "  c.yml:14: train.training_automations.DynamicLossScheduling: expected a mapping of settings, or nothing for "
        "the defaults, got 3 (int).\n"
        "  c.yml:15: train.training_automations.dry_run: expected true or false, got 'no' (str)."
    )


def test_two_sections_are_both_read_for_mistakes() -> None:
    """That there is a second one hides nothing of what is wrong in either."""
    text = """\
training_automations:
  early_stopping: {patience: 0}
train:
  training_automations:
    early_stopping: {mode: maxx}
    x: ${nowhere}
"""
    assert [line.split(": expected")[0].strip() for line in _told(text).splitlines()[1:]] == [
        "c.yml:2: training_automations.early_stopping.patience",
        "c.yml:4: train.training_automations",
        "c.yml:5: train.training_automations.early_stopping.mode",
        "c.yml:6: train.training_automations.x",
    ]
    assert len(_told("training_automations: 3\ntrain: {training_automations: 4}").splitlines()) == 4


def test_an_automation_named_twice_is_read_for_mistakes_in_both_blocks() -> None:
    """Under two of its names, each with mistakes of its own."""
    text = """\
training_automations:
  early_stopping: {patience: 0}
  IntelligentEarlyStopping: {mode: maxx, criteria: [plateau, overfiting]}
"""
    assert _told(text) == (
        "4 problems in the configuration:\n"
        "  c.yml:2: training_automations.early_stopping.patience: expected a whole number at least 1, got 0 (int).\n"
        "  c.yml:3: training_automations.IntelligentEarlyStopping: expected one entry for IntelligentEarlyStopping, "
        "got a second one beside 'training_automations.early_stopping' (line 2).\n"
        "  c.yml:3: training_automations.IntelligentEarlyStopping.mode: expected one of 'auto', 'min', 'max', got "
        "'maxx' (str). Did you mean 'max'?\n"
        "  c.yml:3: training_automations.IntelligentEarlyStopping.criteria.1: expected one of 'plateau', "
        "'overfitting', 'convergence', 'non_finite', 'threshold', got 'overfiting' (str). Did you mean 'overfitting'?"
    )


def test_an_item_of_a_list_has_its_own_line() -> None:
    """Where each stands on one."""
    text = "training_automations:\n  early_stopping:\n    criteria:\n    - plateau\n    - treshold\n"
    assert _told(text).startswith("c.yml:5: training_automations.early_stopping.criteria.1: expected one of")


def _odd_patience(values: Mapping[str, Any], path: str) -> list[Problem]:
    return [Problem(path=f"{path}.patience", expected="an even one", got="odd")] if values.get("patience") == 7 else []


def test_what_else_is_asked_is_told_with_the_rest() -> None:
    """A check that is handed over sees the values of its automation, and its problems get file and line."""
    text = "training_automations:\n  dry_run: 1\n  early_stopping:\n    patience: 7\n    mode: maxx\n"
    Path("c.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings("c.yml", checks={EarlyStoppingSettings: _odd_patience})
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [
        (2, "training_automations.dry_run"),
        (4, "training_automations.early_stopping.patience"),
        (5, "training_automations.early_stopping.mode"),
    ]


def test_what_could_not_be_read_is_told_once() -> None:
    """A check that misses a value says nothing of it where the value is there and cannot be resolved."""

    def misses(values: Mapping[str, Any], path: str) -> list[Problem]:
        return [Problem(path=f"{path}.fallback.{name}", expected="a value", got="nothing") for name in ("a", "b")]

    source = {SECTION: {"early_stopping": {"fallback": {"a": "${nowhere}"}}}}
    with pytest.raises(ConfigError) as caught:
        load_settings(source, checks={EarlyStoppingSettings: misses})
    assert [problem.path.rpartition(".")[2] for problem in caught.value.problems] == ["a", "b"]
    assert "cannot be resolved" in str(caught.value)


def test_a_foreign_file_without_a_section_says_so() -> None:
    """A configuration of another program, loss scheduling turned off in its old place, has nothing of ours."""
    text = "train:\n  optim_g:\n    lr: !!float 2e-4\n  dynamic_loss_scheduling:\n    enabled: false\n"
    assert "got a document without it" in _told(text)
