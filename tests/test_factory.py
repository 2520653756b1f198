"""From the YAML to the callbacks: every value arrives, and nothing but ConfigError comes out of a mistake."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lightning_automations import (
    AdaptiveGradientClipping,
    ConfigError,
    DynamicBatchSizeOptimizer,
    DynamicLossScheduling,
    IntelligentEarlyStopping,
    IntelligentLearningRateScheduler,
    build_callbacks,
)
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader

ROOT = Path(__file__).parent.parent
SEED_FILE = Path(__file__).parent / "config" / "seed_block.yml"
SEED = yaml.safe_load(SEED_FILE.read_text())
SECTION = "training_automations"
FOUR = [
    IntelligentLearningRateScheduler,
    DynamicBatchSizeOptimizer,
    AdaptiveGradientClipping,
    IntelligentEarlyStopping,
]
SEED_VALUES = [
    (automation, name, value)
    for automation, values in SEED["train"][SECTION].items()
    if automation != "enabled"
    for name, value in values.items()
]


def _settings(source: Any) -> dict[str, Any]:
    return {callback.name: callback.settings for callback in build_callbacks(source)}


@pytest.mark.parametrize(("automation", "name", "value"), SEED_VALUES)
def test_every_value_of_the_recommended_block_arrives(automation: str, name: str, value: Any) -> None:
    """The block as it stands, read independently by PyYAML, against the settings of each callback."""
    settings = _settings(SEED_FILE)[automation]
    assert getattr(settings, name) == value
    if isinstance(value, Mapping):
        assert dict(getattr(settings, name)) == value


def test_the_recommended_block_has_the_values_of_the_analysis() -> None:
    """The copy in the tests is whole: 38 settings of four automations."""
    assert len(SEED_VALUES) == 38
    assert list(SEED["train"][SECTION]) == ["enabled", *(automation.__name__ for automation in FOUR)]


def test_the_example_is_the_recommended_block_beside_other_keys() -> None:
    """The example file holds the block letter for letter, under train, and builds the same callbacks."""
    example = ROOT / "example_configs" / "seed_recommendation.yml"
    block = SEED_FILE.read_text().partition("existing config ...\n\n")[2]
    assert block
    assert block in example.read_text()
    assert len(yaml.safe_load(example.read_text())["train"]) > 2
    assert _settings(example) == _settings(SEED_FILE)


def test_the_minimal_example_builds_the_defaults() -> None:
    """An empty section is all four automations as their constructors make them."""
    minimal = build_callbacks(ROOT / "example_configs" / "minimal.yml")
    assert [type(callback) for callback in minimal] == FOUR
    assert [callback.settings for callback in minimal] == [automation().settings for automation in FOUR]


@pytest.mark.parametrize("example", sorted((ROOT / "example_configs").glob("*.yml")), ids=lambda path: path.name)
def test_every_example_builds(example: Path) -> None:
    """No example is behind the code."""
    assert build_callbacks(example)


def test_the_defaults_are_the_recommended_values() -> None:
    """Apart from the schedule that the block's fallback names, writing the block out changes nothing."""
    written, defaults = _settings(SEED_FILE), _settings({SECTION: None})
    for automation, name, value in SEED_VALUES:
        if (automation, name) != ("IntelligentLearningRateScheduler", "fallback"):
            assert getattr(defaults[automation], name) == getattr(written[automation], name) == value


@pytest.mark.parametrize(
    "make",
    [
        lambda: SEED_FILE,
        lambda: str(SEED_FILE),
        lambda: SEED,
        lambda: SEED["train"],
        lambda: OmegaConf.load(SEED_FILE),
        lambda: OmegaConf.load(SEED_FILE)["train"],
    ],
    ids=["Path", "str", "mapping", "mapping at the root", "DictConfig", "part of a DictConfig"],
)
def test_every_kind_of_source_builds_the_same(make: Callable[[], Any]) -> None:
    """Where the section comes from makes no difference."""
    assert _settings(make()) == _settings(SEED_FILE)


def test_the_order_does_not_depend_on_the_file() -> None:
    """The callbacks stand in the trainer as the factory's table has them."""
    section = dict(reversed(list(SEED["train"][SECTION].items())))
    assert [type(callback) for callback in build_callbacks({SECTION: section})] == FOUR


@pytest.mark.parametrize(
    "section", [{"enabled": False}, {automation.__name__: {"enabled": False} for automation in FOUR}]
)
def test_disabled_everywhere_is_an_empty_list(section: dict[str, Any]) -> None:
    """`enabled: false` on the section, or on each automation."""
    assert build_callbacks({SECTION: section}) == []


def test_journal_and_dry_run_of_the_section_reach_the_callbacks() -> None:
    """What an automation writes itself goes before."""
    section = {"dry_run": True, "journal": "a.jsonl", "early_stopping": {"dry_run": False}, "batch_size_optimizer": {}}
    settings = _settings({SECTION: section})
    assert settings["DynamicBatchSizeOptimizer"].dry_run is True
    assert settings["IntelligentEarlyStopping"].dry_run is False
    assert {each.journal for each in settings.values()} == {"a.jsonl"}


def test_what_is_written_holds_and_what_is_not_fits_the_run() -> None:
    """The value of a default, written down, is not shortened; beside it the one that was not written is."""
    callbacks = build_callbacks({SECTION: {"early_stopping": {"patience": 2000, "monitor_metric": "val/loss"}}})
    make_trainer(callbacks, max_epochs=2).fit(Regression(), train_loader(), val_loader())
    [stopper] = callbacks
    assert stopper.effective_settings.patience == stopper.settings.patience == 2000
    assert stopper.effective_settings.min_iterations < stopper.settings.min_iterations == 5000


def test_a_mistake_builds_nothing() -> None:
    """One automation is sound, the other is not: the error names the file's path and there is no list."""
    section = {"AdaptiveGradientClipping": {"max_threshold": 5}, "early_stopping": {"patience": 0}}
    with pytest.raises(ConfigError) as caught:
        build_callbacks({SECTION: section})
    assert str(caught.value) == (
        "training_automations.early_stopping.patience: expected a whole number at least 1, got 0 (int)."
    )


def _paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(data, Mapping):
        return [path]
    return [path, *(place for key, value in data.items() for place in _paths(value, (*path, key)))]


texts = st.text() | st.sampled_from(
    ["", "???", "${train}", "${a", "${.patience}", "${oc.env:X}", "auto", "enabled", "true"]
)
known = st.sampled_from([str(path[-1]) for path in _paths(SEED)[1:]])
keys = known | texts | st.integers() | st.booleans() | st.none()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


@given(place=st.sampled_from(_paths(SEED)[1:]), key=keys, value=values, drop=st.booleans())
def test_a_changed_block_builds_or_says_why(place: tuple[Any, ...], key: Any, value: Any, drop: bool) -> None:
    """Any key renamed, any value replaced, anything dropped: callbacks or ConfigError, never another exception."""
    data = deepcopy(SEED)
    holder = data
    for step in place[:-1]:
        holder = holder[step]
    if drop:
        del holder[place[-1]]
    holder[key] = value
    with suppress(ConfigError):
        assert len(build_callbacks(data)) <= len(FOUR)


@given(
    start=st.integers(0, len(SEED_FILE.read_text())),
    length=st.integers(0, 40),
    text=st.text("abz019 :.-#\n\t\"'{}[]&*!|>%@`?,~$<=\\é\x00", max_size=8),
)
def test_a_changed_file_builds_or_says_why(start: int, length: int, text: str) -> None:
    """The same for the text of the file: what is no YAML any more is told as such."""
    source = SEED_FILE.read_text()
    changed = Path("changed.yml")
    changed.write_text(source[:start] + text + source[start + length :], encoding="utf-8")
    with suppress(ConfigError):
        assert len(build_callbacks(changed)) <= len(FOUR)


OLDER = "train:\n  dynamic_loss_scheduling:\n    enabled: true\n    momentum: 0.5\n    history: 7\n"


@pytest.mark.parametrize(
    ("section", "built", "told"),
    [
        ("", 1, "c.yml:2: train.dynamic_loss_scheduling is the older place of DynamicLossScheduling"),
        (f"  {SECTION}:\n", 5, "Not ours, and left alone: history."),
        (f"  {SECTION}:\n    DynamicLossScheduling:\n", 1, "is not read: the section training_automations decides"),
        (f"  {SECTION}:\n    enabled: false\n", 0, "is not read: the section training_automations decides"),
    ],
)
def test_the_older_place_of_loss_scheduling_is_read_and_told(
    section: str,
    built: int,
    told: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once, with the line; and where the section wins, that is told instead."""
    monkeypatch.chdir(tmp_path)
    Path("c.yml").write_text(OLDER + section)
    callbacks = build_callbacks("c.yml")
    assert len(callbacks) == built
    assert len(caplog.records) == 1
    assert told in caplog.text
    if "older place" in caplog.text:
        assert isinstance(callbacks[-1], DynamicLossScheduling)
        assert callbacks[-1].settings.momentum == 0.5


def test_nothing_is_told_where_there_is_no_older_place(caplog: pytest.LogCaptureFixture) -> None:
    """Nor of one in a mapping that is turned off; a mapping has no line."""
    build_callbacks({SECTION: None, "train": {"dynamic_loss_scheduling": False}})
    assert caplog.records == []
    build_callbacks({"dynamic_loss_scheduling": {"momentum": 0.5}})
    assert caplog.messages == [
        "dynamic_loss_scheduling is the older place of DynamicLossScheduling: it is built from there. Move it to "
        "training_automations.DynamicLossScheduling."
    ]
