"""Automations of someone else: taken by name, built where named, checked like ours, refused where they cannot work."""

from __future__ import annotations

import ast
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_automations import (
    AdaptiveGradientClipping,
    AutomationCallback,
    AutomationsCLI,
    AutomationSettings,
    ConfigError,
    build_callbacks,
    register_automation,
)
from lightning_automations.cli.main import main
from lightning_automations.config.names import REGISTERED, SETTINGS_CLASSES, known_automations
from lightning_automations.config.schema import section_schema
from lightning_automations.registration import find_installed_automations
from tests.callbacks.helpers import journal_entries, make_trainer, train_loader, val_loader
from tests.own_automation import AdaptiveWeightDecay, WeightDecayBrain, WeightDecaySettings
from tests.registry import Decayed

SECTION = "training_automations"


@pytest.fixture
def own() -> type[AutomationCallback]:
    """The automation of the lesson, registered."""
    return register_automation(AdaptiveWeightDecay)


def make(name: str, *, automation: str | None = None, place: str = __name__) -> type[AutomationCallback]:
    """A class of an automation, as a file or a cell defines it; each call makes a new one."""
    values = {"automation": automation or name, "__annotations__": {"automation": ClassVar[str]}, "__module__": place}
    settings = dataclass(frozen=True, kw_only=True)(type(f"{name}Settings", (AutomationSettings,), values))
    parts = {"settings_class": settings, "make_brain": lambda self, settings: WeightDecayBrain(settings)}
    return type(name, (AutomationCallback,), {**parts, "__module__": place, "__qualname__": name})


# In a configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AdaptiveWeightDecay", "adaptive_weight_decay"])
def test_it_is_built_under_both_names_behind_ours(own: type[AutomationCallback], name: str) -> None:
    """Whatever the order of the file; with its settings, and those that stand on the section."""
    built = build_callbacks({SECTION: {"dry_run": True, name: {"patience": 2}, "AdaptiveGradientClipping": None}})
    assert [type(callback) for callback in built] == [AdaptiveGradientClipping, own]
    assert built[1].settings == WeightDecaySettings(patience=2, dry_run=True)


def test_a_section_that_names_none_builds_none_of_others(own: type[AutomationCallback]) -> None:
    """An empty section is as it was."""
    assert own not in [type(callback) for callback in build_callbacks({SECTION: None})]


def test_enabled_false_turns_it_off(own: type[AutomationCallback]) -> None:
    """As for any other."""
    assert build_callbacks({SECTION: {"AdaptiveWeightDecay": {"enabled": False}}}) == []


def test_its_mistakes_are_told_with_ours_in_one_error(own: type[AutomationCallback], tmp_path: Path) -> None:
    """Unknown key with the nearest name, a value out of range, two that contradict; file, line and path of each."""
    file = tmp_path / "train.yml"
    file.write_text(
        "training_automations:\n"
        "  adaptive_weight_decay:\n"
        "    patiense: 3\n"
        "    tolerance: -1\n"
        "    fallback: {factr: 2}\n"
        "  AdaptiveGradientClipping: {max_threshold: 0}\n"
        "  AdaptiveWeightDeca:\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        build_callbacks(file)
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [
        (3, "training_automations.adaptive_weight_decay.patiense"),
        (4, "training_automations.adaptive_weight_decay.tolerance"),
        (5, "training_automations.adaptive_weight_decay.fallback.factr"),
        (6, "training_automations.AdaptiveGradientClipping.max_threshold"),
        (7, "training_automations.AdaptiveWeightDeca"),
    ]
    hints = [problem.hint for problem in caught.value.problems]
    assert hints[0] == "Did you mean 'patience'?"
    assert hints[4] == "Did you mean 'AdaptiveWeightDecay'?"


def test_named_twice_is_told(own: type[AutomationCallback]) -> None:
    """The class name and its snake_case are the same automation."""
    with pytest.raises(ConfigError, match="one entry for AdaptiveWeightDecay"):
        build_callbacks({SECTION: {"AdaptiveWeightDecay": None, "adaptive_weight_decay": None}})


def test_not_registered_it_is_an_unknown_name() -> None:
    """The list of known names is that of what is known."""
    with pytest.raises(ConfigError, match="the unknown name 'AdaptiveWeightDecay'"):
        build_callbacks({SECTION: {"AdaptiveWeightDecay": None}})


def test_the_schema_has_it_once_it_is_registered(own: type[AutomationCallback]) -> None:
    """An editor completes and marks its settings like ours."""
    validator = jsonschema.Draft7Validator(section_schema())
    assert not list(validator.iter_errors({SECTION: {"adaptive_weight_decay": {"patience": 2}}}))
    wrong = {SECTION: {"AdaptiveWeightDecay": {"patience": 0}}}
    assert [error.json_path for error in validator.iter_errors(wrong)] == [f"$.{SECTION}.AdaptiveWeightDecay"]
    REGISTERED.clear()
    assert "AdaptiveWeightDecay" not in str(section_schema())


# In a run -------------------------------------------------------------------------------------------------------------


def test_a_budget_hands_over_to_its_fallback(own: type[AutomationCallback], tmp_path: Path) -> None:
    """Named in the section, it acts, retires once, and the journal and the optimizer say the same."""
    journal = tmp_path / "journal.jsonl"
    settings = {"tolerance": 0.0, "patience": 1, "max_adjustments": 2, "fallback": {"factor": 3.0}}
    built = build_callbacks({SECTION: {"journal": str(journal), "AdaptiveWeightDecay": settings}})
    trainer = make_trainer(built, max_epochs=8)
    trainer.fit(Decayed(), train_loader(), val_loader())
    entries = [(entry["event"], entry.get("new")) for entry in journal_entries(journal)]
    assert entries == [("start", None), ("adjustment", 2.0), ("adjustment", 4.0), ("retired", None), ("end", None)]
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == pytest.approx(3e-3)
    assert float(trainer.callback_metrics["automation/adaptive_weight_decay/factor"]) == 3.0
    [reason] = {entry["reason"] for entry in journal_entries(journal) if "reason" in entry}
    assert reason == "validation_loss_stays_above_its_best"


# Who is taken ---------------------------------------------------------------------------------------------------------


def test_the_same_class_once_more_changes_nothing(own: type[AutomationCallback]) -> None:
    """A module may be imported by a user and by an entry point."""
    assert register_automation(own) is own
    assert list(REGISTERED.items()) == [(WeightDecaySettings, own)]


def test_a_cell_that_is_run_again_gives_the_class_that_holds() -> None:
    """A notebook defines the same name anew: the later class is the one that is built."""
    register_automation(make("CoolDown"))
    later = register_automation(make("CoolDown"))
    assert list(REGISTERED.values()) == [later]
    assert type(build_callbacks({SECTION: {"cool_down": None}})[0]) is later


def test_a_program_that_is_run_and_imported_is_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """``python train.py`` with a class path ``train.CoolDown`` defines the class in ``__main__`` and in ``train``."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)  # a worker of pytest has none
    register_automation(make("CoolDown", place="__main__"))
    register_automation(make("CoolDown"))
    assert len(REGISTERED) == 1


@pytest.mark.parametrize(
    ("name", "snake_case"),
    [("CoolDown", "cool_down"), ("EMADecay", "ema_decay"), ("Stop2Late", "stop2_late"), ("Warm", "warm")],
)
def test_the_snake_case_of_a_name(name: str, snake_case: str) -> None:
    """Capitals in a row are one word."""
    automation = register_automation(make(name))
    assert automation.settings_class.names() == (name, snake_case)
    assert automation.metrics_name == snake_case
    assert known_automations()[snake_case] is automation.settings_class


@pytest.mark.parametrize("settings", SETTINGS_CLASSES, ids=lambda settings: settings.automation)
def test_our_own_have_the_same_two_names(settings: type[AutomationSettings]) -> None:
    """Some have a shorter one besides."""
    assert {known_automations()[name] for name in settings.names()} == {settings}


# Who is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "AdaptiveGradientClipping",
            "AdaptiveGradientClipping: expected a name that is free, got 'AdaptiveGradientClipping', an automation of "
            "this package. Rename the class, and automation in its settings.",
        ),
        (
            "EarlyStopping",
            "EarlyStopping: expected a name that is free, got 'early_stopping', an automation of this package. Rename "
            "the class, and automation in its settings.",
        ),
        (
            "Journal",
            "Journal: expected a name that is free, got 'journal', a setting of training_automations. Rename the",
        ),
    ],
)
def test_a_name_of_ours_is_taken(name: str, message: str) -> None:
    """Under either form; nothing is registered."""
    with pytest.raises(ValueError) as caught:
        register_automation(make(name))
    assert str(caught.value).startswith(message)
    assert not REGISTERED


def test_a_name_of_another_package_is_taken() -> None:
    """The message says who has it."""
    register_automation(make("CoolDown", place="tests.registry"))
    with pytest.raises(ValueError) as caught:
        register_automation(make("CoolDown"))
    assert "got 'CoolDown', an automation of tests.registry. Rename the class" in str(caught.value)


@pytest.mark.parametrize("value", [int, 3, WeightDecaySettings])
def test_what_is_no_automation_is_refused(value: Any) -> None:
    """With what came."""
    with pytest.raises(TypeError, match="register_automation: expected a child of AutomationCallback, got "):
        register_automation(value)


def test_settings_of_another_automation_are_refused() -> None:
    """A child of an automation that exists needs settings of its own: their name is its state's key."""

    class MyClipping(AdaptiveGradientClipping):
        pass

    with pytest.raises(TypeError) as caught:
        register_automation(MyClipping)
    assert str(caught.value) == (
        "MyClipping: expected settings of its own with automation = 'MyClipping', which is its name in the section, "
        "the journal and checkpoints; got GradientClippingSettings with 'AdaptiveGradientClipping'."
    )


def test_a_setting_that_no_file_can_hold_is_refused() -> None:
    """Before a check or the schema has to know what it means."""
    automation = make("CoolDown")

    @dataclass(frozen=True, kw_only=True)
    class WiderSettings(AutomationSettings):
        automation: ClassVar[str] = "CoolDown"
        precision: torch.dtype = torch.float32

    automation.settings_class = WiderSettings
    with pytest.raises(TypeError, match=r"WiderSettings\.precision: expected a type that a YAML file can hold .* got"):
        register_automation(automation)
    assert not REGISTERED


def test_a_class_without_a_brain_is_refused() -> None:
    """It would fail where it is built, in the middle of someone's program."""
    parts = {"settings_class": make("CoolDown").settings_class}
    with pytest.raises(TypeError, match=r"CoolDown: expected a method make_brain\(settings\)"):
        register_automation(type("CoolDown", (AutomationCallback,), parts))


# Installed packages ---------------------------------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a package with one module and entry points where Python finds installed ones."""
    site = tmp_path / "site"
    modules: list[str] = []

    def installed(package: str, code: str, **names: str) -> None:
        information = site / f"{package}-1.0.dist-info"
        information.mkdir(parents=True)
        (site / f"{package}.py").write_text(code, encoding="utf-8")
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}:{value}" for name, value in names.items()]
        (information / "entry_points.txt").write_text("\n".join(["[lightning_automations.automations]", *lines]))
        modules.append(package)

    monkeypatch.syspath_prepend(site)
    find_installed_automations.cache_clear()
    yield installed
    find_installed_automations.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


LIGHT = "from tests.test_registration import make\n"


def test_an_installed_automation_is_found_without_an_import(install: Callable[..., None]) -> None:
    """Its class need not be decorated; packages are asked once in a process."""
    install("brakes", f"{LIGHT}CoolDown = make('CoolDown', place=__name__)\n", soft="CoolDown")
    [callback] = build_callbacks({SECTION: {"cool_down": None}})
    assert type(callback).__name__ == "CoolDown"
    assert type(callback).__module__ == "brakes"
    install("horns", f"{LIGHT}Honk = make('Honk', place=__name__)\n", loud="Honk")
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match="the unknown name 'honk'"):
        build_callbacks({SECTION: {"honk": None}})


def test_commands_and_programs_find_it_too(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``schema`` prints it, and AutomationsCLI has its settings before anything is built."""
    install("brakes", f"{LIGHT}CoolDown = make('CoolDown', place=__name__)\n", soft="CoolDown")
    assert main(["schema"]) == 0
    assert "cool_down" in json.loads(capsys.readouterr().out)["definitions"]["section"]["properties"]
    REGISTERED.clear()
    find_installed_automations.cache_clear()
    monkeypatch.setattr("sys.argv", ["train.py", "--training_automations.cool_down.max_adjustments=3"])
    cli = AutomationsCLI(BoringModel, run=False, save_config_callback=None, seed_everything_default=1)
    [callback] = [item for item in cli.trainer.callbacks if isinstance(item, AutomationCallback)]
    assert (type(callback).__name__, callback.settings.max_adjustments) == ("CoolDown", 3)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("", "AttributeError: module 'squeak' has no attribute 'CoolDown'"),
        ("CoolDown = 3", "TypeError: register_automation: expected a child of AutomationCallback, got 3."),
        (
            f"{LIGHT}CoolDown = make('EarlyStopping')",
            "ValueError: EarlyStopping: expected a name that is free, got 'early_stopping', an automation of this "
            "package. Rename the class, and automation in its settings.",
        ),
    ],
    ids=["fails", "needs another", "empty", "something else", "taken name"],
)
def test_one_that_cannot_be_loaded_is_told_and_left_out(
    install: Callable[..., None], caplog: pytest.LogCaptureFixture, code: str, error: str
) -> None:
    """The package is named, and the others work."""
    install("squeak", code, noisy="CoolDown")
    install("brakes", f"{LIGHT}Brake = make('Brake', place=__name__)\n", soft="Brake")
    with caplog.at_level(logging.WARNING):
        built = build_callbacks({SECTION: {"Brake": None, "AdaptiveGradientClipping": None}})
    assert len(built) == 2
    [record] = caplog.records
    assert record.getMessage() == (
        f"The automation 'noisy' of squeak (squeak:CoolDown) is left out: {error.rstrip('.')}. Everything else works; "
        "mend or uninstall squeak."
    )


# The lesson -----------------------------------------------------------------------------------------------------------


def test_the_lesson_teaches_the_automation_of_the_contract() -> None:
    """Every class that the notebook writes is, word for word, the one on which the contract is tested."""
    root = Path(__file__).parents[1]
    notebook = json.loads((root / "notebooks" / "own_automation.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    source = (root / "tests" / "own_automation.py").read_text(encoding="utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 4
    for node in classes:
        assert any(ast.get_source_segment(source, node) in cell for cell in cells), node.name
    assert not [cell for cell in notebook["cells"] if cell.get("outputs")]
