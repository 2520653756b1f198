"""Automations of someone else on the command line and in LightningCLI."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel
from pytorch_lightning.cli import LightningCLI as PytorchLightningCLI
from pytorch_lightning.demos.boring_classes import BoringModel as TwinModel

from lightning_automations import AutomationsCLI, register_automation
from lightning_automations.cli.lightning_cli import AutomationsCLIMixin
from lightning_automations.cli.main import main
from tests.own_automation import AdaptiveWeightDecay

SOUND = "training_automations:\n  AdaptiveWeightDecay: {patience: 2}\n"
WRONG = "training_automations:\n  adaptive_weight_decay:\n    patiense: 2\n    step_factor: 9000\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder that registers an automation, and that nobody has imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_automations.py").write_text(
        "from lightning_automations import register_automation\n"
        "from tests.own_automation import AdaptiveWeightDecay\n"
        "register_automation(AdaptiveWeightDecay)\n",
        encoding="utf-8",
    )
    monkeypatch.delitem(sys.modules, "my_automations", raising=False)
    return "my_automations"


def _checked(text: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status, and the subject that is ours to look at."""
    Path("c.yml").write_text(text, encoding="utf-8")
    status = main(["check", "c.yml", "--format", "json", *arguments])
    [file] = json.loads(capsys.readouterr().out)["files"]
    return status, {subject["name"]: subject for subject in file["subjects"]}


def test_check_knows_what_a_module_registers(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the option the name is not known."""
    status, subjects = _checked(SOUND, capsys)
    assert status == 1
    assert "AdaptiveWeightDecay" not in subjects
    status, subjects = _checked(SOUND, capsys, "--import", module)
    assert subjects["AdaptiveWeightDecay"]["status"] == "right"
    assert subjects["training_automations"]["status"] == "right"


def test_check_tells_its_mistakes_with_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """As for ours: every one, at its place."""
    register_automation(AdaptiveWeightDecay)
    status, subjects = _checked(WRONG, capsys)
    assert status == 1
    assert subjects["AdaptiveWeightDecay"]["status"] == "invalid"
    assert {finding["line"] for finding in subjects["AdaptiveWeightDecay"]["findings"]} == {3, 4}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("{max_adjustments: 0}", "max_adjustments is 0"),
        ("{dry_run: true}", "dry_run is true"),
        ("{enabled: false}", "it is turned off"),
    ],
)
def test_check_tells_what_would_be_wrong_for_any(value: str, found: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What holds for every automation holds for it."""
    register_automation(AdaptiveWeightDecay)
    _, subjects = _checked(f"training_automations: {{AdaptiveWeightDecay: {value}}}\n", capsys)
    assert [finding["found"] for finding in subjects["AdaptiveWeightDecay"]["findings"]] == [found]


def test_check_sees_one_that_is_named_by_class_path(capsys: pytest.CaptureFixture[str]) -> None:
    """In ``trainer.callbacks``; a class of the same name in another package is another class."""
    register_automation(AdaptiveWeightDecay)
    text = "trainer: {{callbacks: [{{class_path: {}.AdaptiveWeightDecay, init_args: {{patience: 0}}}}]}}\n"
    _, subjects = _checked(text.format("tests.own_automation"), capsys)
    assert subjects["AdaptiveWeightDecay"]["status"] == "invalid"
    _, subjects = _checked(text.format("elsewhere"), capsys)
    assert "AdaptiveWeightDecay" not in subjects


def test_one_that_the_file_does_not_name_is_not_missed(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to use what happens to be installed."""
    register_automation(AdaptiveWeightDecay)
    status, subjects = _checked("training_automations:\n", capsys)
    assert status == 0
    assert "AdaptiveWeightDecay" not in subjects


def test_migrate_leaves_it_alone(module: str) -> None:
    """What is next to it is mended, its lines stay."""
    own = "    AdaptiveWeightDecay: {patience: 2}  # mine\n"
    Path("c.yml").write_text(
        "train:\n  total_iter: 4000\n  grad_clip: 0.5\n  training_automations:\n    AdaptiveGradientClipping:\n" + own
    )
    assert main(["migrate", "c.yml", "--in-place", "--import", module]) == 0
    new = Path("c.yml").read_text()
    assert own in new
    assert "grad_clip: null" in new


def test_schema_has_it(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Under both names; without the option it is the schema of this package."""
    assert main(["schema"]) == 0
    assert "AdaptiveWeightDecay" not in capsys.readouterr().out
    assert main(["schema", "--import", module]) == 0
    properties = json.loads(capsys.readouterr().out)["definitions"]["section"]["properties"]
    assert {"AdaptiveWeightDecay", "adaptive_weight_decay"} <= set(properties)


def test_a_module_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and what to do."""
    assert main(["schema", "--import", "nowhere_to_be_found"]) == 2
    assert capsys.readouterr().err.startswith(
        "--import: expected a module that can be imported, got 'nowhere_to_be_found' (No module named"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("./unf.py", "does: unf."),
        ("pkg/unf.py", "does: pkg.unf."),
        (".", "does."),
        ("", "does."),
    ],
)
def test_a_file_is_no_name_of_a_module(name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The name that was meant is told where there is one."""
    Path("unf.py").write_text("")
    assert main(["check", "c.yml", "--import", name]) == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith(f"--import: expected a module that can be imported, got {name!r}. Name it as an import")
    assert message.endswith(f"statement {hint}")
    assert main(["check", "c.yml", "--import", "unf.py"]) == 2
    assert "as an import statement does: unf, and run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n1 / 0\n", "which raised ZeroDivisionError ({place}, line 2): division by zero. Mend it there"),
        ("import sys\nsys.exit(3)\n", "which raised SystemExit ({place}, line 2): 3. Mend it there"),
        ("x = = 1\n", "which raised SyntaxError: invalid syntax (failing.py, line 1). Mend it there"),
        (
            "from lightning_automations import register_automation\nregister_automation(3)\n",
            "which raised TypeError ({place}, line 2): register_automation: expected a child of AutomationCallback",
        ),
    ],
)
def test_a_module_that_fails_is_told(
    text: str, told: str, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its line; exit status 2, for 1 means findings."""
    place = Path("failing.py").resolve()
    place.write_text(text)
    monkeypatch.delitem(sys.modules, "failing", raising=False)
    assert main(["check", "c.yml", "--import", "failing"]) == 2
    assert told.format(place=place) in capsys.readouterr().err


class TwinCLI(AutomationsCLIMixin, PytorchLightningCLI):
    """The section in a program on the other package."""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a program with these lines in its configuration, without a run."""

    def started(kind: Any, text: str, *arguments: str) -> list[Any]:
        (tmp_path / "config.yml").write_text(text, encoding="utf-8")
        monkeypatch.setattr("sys.argv", ["train.py", "--config=config.yml", *arguments])
        model = TwinModel if issubclass(kind, PytorchLightningCLI) else BoringModel
        cli = kind(
            model, run=False, seed_everything_default=1, save_config_callback=None, trainer_defaults={"logger": False}
        )
        return [item for item in cli.trainer.callbacks if isinstance(item, AdaptiveWeightDecay)]

    return started


CLIS = pytest.mark.parametrize("kind", [LightningCLI, PytorchLightningCLI, AutomationsCLI, TwinCLI])


@CLIS
def test_it_is_named_by_its_class_path(kind: Any, start: Callable[..., Any]) -> None:
    """Registered or not, in either LightningCLI and in ours."""
    path = "tests.own_automation.AdaptiveWeightDecay"
    [callback] = start(kind, f"trainer: {{callbacks: [{{class_path: {path}, init_args: {{patience: 2}}}}]}}\n")
    assert callback.settings.patience == 2


@pytest.mark.parametrize("kind", [AutomationsCLI, TwinCLI])
@pytest.mark.parametrize("name", ["AdaptiveWeightDecay", "adaptive_weight_decay"])
def test_it_stands_in_the_section(kind: Any, name: str, start: Callable[..., Any]) -> None:
    """In the file, and on the command line with each setting by its name."""
    register_automation(AdaptiveWeightDecay)
    text = f"training_automations: {{{name}: {{patience: 2}}}}\n"
    [callback] = start(kind, text, f"--training_automations.{name}.step_factor=4")
    assert (callback.settings.patience, callback.settings.step_factor) == (2, 4.0)


def test_the_section_refuses_what_is_wrong(start: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of ConfigError, or of jsonargparse for a name."""
    register_automation(AdaptiveWeightDecay)
    for value, told in (("{step_factor: 9000}", "at most max_factor (1000.0)"), ("{patiense: 2}", "patiense")):
        with pytest.raises(SystemExit):
            start(AutomationsCLI, f"training_automations: {{AdaptiveWeightDecay: {value}}}\n")
        assert told in capsys.readouterr().err
