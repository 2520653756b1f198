"""OmegaConf's interpolations: resolved in our section, left alone everywhere else."""

from pathlib import Path
from typing import Any

import omegaconf
import pytest
from omegaconf import DictConfig, OmegaConf

from lightning_automations.config import interpolation
from lightning_automations.config.loading import load_settings
from lightning_automations.core.errors import ConfigError

SECTION = "training_automations"


def _patience(values: Any, **others: Any) -> Any:
    """What arrives as the patience of early stopping."""
    [(_, written)] = load_settings({"training_automations": {"early_stopping": values}, **others})
    return written["patience"]


def _told(source: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(source)
    return str(caught.value)


def test_an_interpolation_is_relative_to_the_whole_document() -> None:
    """Absolute, relative, nested and through another interpolation."""
    assert _patience({"patience": "${steps}"}, steps=7) == 7
    assert _patience({"patience": "${.min_epochs}", "min_epochs": 8}) == 8
    assert _patience({"patience": "${a.${which}}"}, a={"b": 9}, which="b") == 9
    assert _patience({"patience": "${a}"}, a="${b}", b=10) == 10
    assert _patience({"patience": "${list[1]}"}, list=[1, 11]) == 11


def test_an_interpolation_keeps_the_type_of_its_value() -> None:
    """A number stays a number, within a text it becomes text, an escaped one is text."""
    source = {
        SECTION: {
            "journal": "${folder}/${scale}.jsonl",
            "dry_run": "${dry}",
            "early_stopping": {"monitor_metric": r"\${x}"},
        },
        "folder": "runs",
        "scale": 2,
        "dry": True,
    }
    [(_, written)] = load_settings(source)
    assert written == {"journal": "runs/2.jsonl", "dry_run": True, "monitor_metric": "${x}"}


def test_an_environment_variable_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """OmegaConf's own resolvers work."""
    monkeypatch.setenv("PATIENCE", "12")
    assert _patience({"patience": "${oc.decode:${oc.env:PATIENCE}}"}) == 12


@pytest.mark.parametrize(
    "source",
    [
        {"train": "${base}", "base": {SECTION: {"early_stopping": {"patience": 3}}}},
        {"train": {SECTION: "${base}"}, "base": {"early_stopping": {"patience": 3}}},
        {"train": {SECTION: {"early_stopping": "${base}"}}, "base": {"patience": 3}},
        {"train": {SECTION: {"early_stopping": "${base}"}}, "base": {"patience": "${n}"}, "n": 3},
    ],
    ids=["train", "section", "automation", "twice"],
)
@pytest.mark.parametrize("make", [dict, OmegaConf.create], ids=["mapping", "DictConfig"])
def test_a_whole_mapping_can_stand_elsewhere(source: Any, make: Any) -> None:
    """An interpolation may bring the section, what holds it, or one automation."""
    [(automation, written)] = load_settings(make(source))
    assert (automation.automation, written) == ("IntelligentEarlyStopping", {"patience": 3})


def test_a_list_is_resolved_in_its_members() -> None:
    """Lists of a mapping, of a DictConfig, and brought by an interpolation."""
    source = {SECTION: {"early_stopping": {"criteria": ["${a}", "threshold"]}}, "a": "plateau"}
    whole = {SECTION: {"early_stopping": {"criteria": "${b}"}}, "a": "plateau", "b": ["${a}", "threshold"]}
    for given in (source, OmegaConf.create(source), whole, OmegaConf.create(whole)):
        [(_, written)] = load_settings(given)
        assert written == {"criteria": ["plateau", "threshold"]}


def test_what_is_read_holds_nothing_of_omegaconf() -> None:
    """Settings are plain values: a checkpoint or a journal never meets a DictConfig."""
    source = {
        SECTION: {"learning_rate_scheduler": {"fallback": "${base}"}},
        "base": {"scheduler_type": "step", "scheduler_params": {"step_size": 5}},
    }
    [(_, written)] = load_settings(OmegaConf.create(source))
    assert type(written["fallback"]) is dict
    assert type(written["fallback"]["scheduler_params"]) is dict


class _Dataset:
    """Not a value that YAML could hold."""


FOREIGN: dict[str, Any] = {
    "output": "${hydra:runtime.output_dir}",
    "nowhere": "${no.such.key}",
    "shell": "echo ${",
    "later": "???",
    "list": ["${nowhere.either}", {"deep": "${hydra:x}"}],
}


@pytest.mark.parametrize("patience", [5, "${steps}"])
def test_foreign_values_are_left_alone(patience: Any) -> None:
    """Resolvers that do not exist, missing values, malformed texts and objects beside our section do no harm."""
    foreign = {**FOREIGN, "object": _Dataset(), "class": _Dataset, None: 1, ("a", 1): 2, 3: "three"}
    source = {**foreign, SECTION: {"early_stopping": {"patience": patience}}, "steps": 5}
    [(_, written)] = load_settings(source)
    assert written == {"patience": 5}
    assert source["output"] == FOREIGN["output"]


@pytest.mark.parametrize("patience", [5, "${steps}"])
@pytest.mark.parametrize("place", [SECTION, f"train.{SECTION}"])
def test_foreign_values_of_a_dictconfig_are_left_alone(patience: Any, place: str) -> None:
    """The same for a DictConfig, which may hold objects by its flag and be read-only."""
    config = OmegaConf.create(
        {**{key: value for key, value in FOREIGN.items() if key != "shell"}, "object": _Dataset(), "steps": 5},
        flags={"allow_objects": True},
    )
    OmegaConf.update(config, place, {"early_stopping": {"patience": patience}}, force_add=True)
    OmegaConf.set_readonly(config, True)
    OmegaConf.set_struct(config, True)
    before = OmegaConf.to_container(config, resolve=False)
    [(_, written)] = load_settings(config)
    assert written == {"patience": 5}
    assert OmegaConf.to_container(config, resolve=False) == before


def test_a_resolver_beside_our_section_is_never_called() -> None:
    """A resolver may be slow or may do something."""
    called: list[str] = []

    def record() -> str:
        called.append("called")
        return "x"

    # The name of the function changed: the old one warns in 2.4, and the new one was another function in 2.3.
    recent = tuple(int(part) for part in omegaconf.__version__.split(".")[:2]) >= (2, 4)
    register = OmegaConf.register_resolver if recent else OmegaConf.register_new_resolver
    register("test_foreign", record)
    source = {"a": "${test_foreign:}", SECTION: {"early_stopping": {"patience": "${n}"}}, "n": 5}
    load_settings(source)
    load_settings(OmegaConf.create(source))
    assert called == []
    OmegaConf.clear_resolver("test_foreign")


def test_an_unresolved_train_does_no_harm_to_a_section_at_the_root() -> None:
    """`train` may be anything where the section does not stand in it."""
    for make in (dict, OmegaConf.create):
        assert load_settings(make({"train": "${nowhere}", SECTION: {"enabled": False}})) == []


def test_a_part_of_a_dictconfig_knows_its_whole() -> None:
    """Passing `cfg.train` works: interpolations are relative to the root that it belongs to."""
    config = OmegaConf.create({"train": {SECTION: {"early_stopping": {"patience": "${steps}"}}}, "steps": 4})
    assert [written for _, written in load_settings(config.train)] == [{"patience": 4}]
    assert [written for _, written in load_settings({"train": config.train})] == [{"patience": 4}]
    mixed = {SECTION: {"early_stopping": {"patience": "${n}"}}, "n": 6, "val": config.train}
    assert [written for _, written in load_settings(mixed)] == [{"patience": 6}]


PATH = f"{SECTION}.early_stopping.patience"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("${steps}", "an interpolation that cannot be resolved (Interpolation key 'steps' not found)"),
        ("${hydra:x}", "an interpolation that cannot be resolved (Unsupported interpolation type hydra)"),
        ("${.patience}", "an interpolation that cannot be resolved (Recursive interpolation detected)"),
        ("${a", "an interpolation that cannot be resolved (no viable alternative at input '${a')"),
        ("???", "'???', which stands for a value that is still missing"),
    ],
)
def test_what_cannot_be_resolved_in_our_section_is_a_problem(value: str, reason: str) -> None:
    """The path and OmegaConf's reason, without its account of its own types."""
    assert _told({SECTION: {"early_stopping": {"patience": value}}}).startswith(f"{PATH}: expected a value, got ")
    if value != "${a":
        assert _told({SECTION: {"early_stopping": {"patience": value}}}) == f"{PATH}: expected a value, got {reason}."
        config = OmegaConf.create({SECTION: {"early_stopping": {"patience": value}}})
        assert _told(config) == f"{PATH}: expected a value, got {reason}."


def test_a_reference_to_what_is_missing_is_a_problem() -> None:
    """A malformed text or an object that is referred to counts as missing."""
    for value in ("???", "${", _Dataset()):
        told = _told({SECTION: {"early_stopping": {"patience": "${x}"}}, "x": value})
        assert told.startswith(f"{PATH}: expected a value, got an interpolation that cannot be resolved (Missing")


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"train": "${nowhere}"}, "train"),
        ({"train": {SECTION: "${nowhere}"}}, f"train.{SECTION}"),
        ({SECTION: {"early_stopping": "${nowhere}"}}, f"{SECTION}.early_stopping"),
        ({SECTION: {"early_stopping": {"criteria": ["${nowhere}"]}}}, f"{SECTION}.early_stopping.criteria.0"),
    ],
)
@pytest.mark.parametrize("make", [dict, OmegaConf.create], ids=["mapping", "DictConfig"])
def test_an_unresolved_mapping_is_one_problem(source: Any, path: str, make: Any) -> None:
    """Wherever it stands, its path is named."""
    assert _told(make(source)) == (
        f"{path}: expected a value, got an interpolation that cannot be resolved (Interpolation key 'nowhere' not "
        f"found)."
    )


def test_every_unresolved_value_is_reported_with_its_line() -> None:
    """In a file, each has the line at which it is written."""
    Path("c.yml").write_text(
        f"{SECTION}:\n  early_stopping:\n    patience: ${{a}}\n    mode: ???\n    min_epochs: -1\n"
    )
    assert _told("c.yml") == (
        "3 problems in the configuration:\n"
        f"  c.yml:3: {SECTION}.early_stopping.patience: expected a value, got an interpolation that cannot be resolved "
        "(Interpolation key 'a' not found).\n"
        f"  c.yml:4: {SECTION}.early_stopping.mode: expected a value, got '???', which stands for a value that is "
        "still missing.\n"
        f"  c.yml:5: {SECTION}.early_stopping.min_epochs: expected a whole number at least 0, got -1 (int)."
    )


def test_a_default_does_not_stand_in_for_what_cannot_be_resolved() -> None:
    """The lower bound is unknown, so that it is not above the upper one; what is written wrong beside it is."""
    clipping = {"min_threshold": "${nowhere}", "max_threshold": 0.05, "method": "x"}
    with pytest.raises(ConfigError) as caught:
        load_settings({SECTION: {"AdaptiveGradientClipping": clipping}})
    assert [problem.path.rpartition(".")[2] for problem in caught.value.problems] == ["min_threshold", "method"]


def test_interpolations_that_repeat_each_other_are_bounded() -> None:
    """Forty levels of two references are a million million values."""
    source: dict[str, Any] = {f"l{n}": {"a": f"${{l{n - 1}}}", "b": f"${{l{n - 1}}}"} for n in range(1, 40)}
    source |= {"l0": {"a": 1, "b": 1}, SECTION: {"learning_rate_scheduler": {"fallback": "${l39}"}}}
    message = f"expected at most {interpolation.VALUES_MAX} values, {interpolation.DEPTH_MAX} levels deep, got more."
    for given in (source, OmegaConf.create(source)):
        assert _told(given).endswith(message)


def test_a_mapping_that_leads_around_itself_ends() -> None:
    """`fallback` that holds the document that holds it: OmegaConf refuses a parent, the depth ends the rest."""
    source: dict[str, Any] = {
        "x": {"y": "${z}"},
        "z": {"x": "${x}"},
        SECTION: {"learning_rate_scheduler": {"fallback": "${x}"}},
    }
    assert "expected" in _told(source)
    assert "expected" in _told(OmegaConf.create(source))


def test_a_section_is_not_copied_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document without interpolations in our section never becomes a DictConfig."""

    def refuse(*args: object, **kwargs: object) -> DictConfig:
        raise AssertionError("OmegaConf was asked")

    monkeypatch.setattr(OmegaConf, "create", refuse)
    assert _patience({"patience": 5}, output="${hydra:x}") == 5
