"""The section ``training_automations`` in a LightningCLI of either package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import pytorch_lightning
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from pytorch_lightning.cli import LightningCLI as PytorchLightningCLI

from lightning_automations import (
    AdaptiveGradientClipping,
    AutomationsCLI,
    DynamicBatchSizeOptimizer,
    IntelligentEarlyStopping,
    IntelligentLearningRateScheduler,
)
from lightning_automations.cli.lightning_cli import AutomationsCLIMixin
from lightning_automations.config.names import AUTOMATIONS
from lightning_automations.core.documentation import setting_descriptions
from tests.callbacks.helpers import Regression, train_loader, val_loader

ALL = [
    "AdaptiveGradientClipping",
    "DynamicBatchSizeOptimizer",
    "IntelligentEarlyStopping",
    "IntelligentLearningRateScheduler",
]
TRAINER = """
trainer:
  accelerator: cpu
  max_epochs: 4
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
"""


class Data(pl.LightningDataModule):
    """16 training batches and one for validation."""

    def train_dataloader(self) -> Any:
        return train_loader()

    def val_dataloader(self) -> Any:
        return val_loader()


class TwinModel(pytorch_lightning.LightningModule):
    """The same regression in the other package."""

    def __init__(self) -> None:
        super().__init__()
        inner = Regression()
        self.layer, self.rate = inner.layer, inner.rate
        self.loss = lambda batch: Regression.loss(self, batch)  # type: ignore[arg-type]

    training_step = Regression.training_step
    validation_step = Regression.validation_step
    configure_optimizers = Regression.configure_optimizers


class TwinData(pytorch_lightning.LightningDataModule):
    """The same data in the other package."""

    train_dataloader = Data.train_dataloader
    val_dataloader = Data.val_dataloader


class TwinCLI(AutomationsCLIMixin, PytorchLightningCLI):
    """The mixin in front of the LightningCLI of ``pytorch_lightning``."""


Start = Callable[..., Any]
EITHER = pytest.mark.parametrize("kind", [AutomationsCLI, TwinCLI], ids=["lightning", "pytorch_lightning"])


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a program with a configuration and arguments; it builds a trainer, and trains where told to."""

    def program(section: str, *arguments: str, kind: Any = AutomationsCLI, subcommand: str = "", **options: Any) -> Any:
        path = tmp_path / "config.yml"
        path.write_text(TRAINER + section, encoding="utf-8")
        words = [subcommand] if subcommand else []
        monkeypatch.setattr("sys.argv", ["train.py", *words, f"--config={path}", *arguments])
        classes = (TwinModel, TwinData) if issubclass(kind, PytorchLightningCLI) else (Regression, Data)
        defaults = {"save_config_callback": None, "seed_everything_default": 1, "run": bool(subcommand)}
        return kind(*classes, **{**defaults, **options})

    return program


def automations(cli: Any) -> dict[str, Any]:
    """The automations of the trainer that a program has made, by name."""
    return {
        type(item).__name__: item
        for item in cli.trainer.callbacks
        if type(item).__name__ in (*ALL, "DynamicLossScheduling")
    }


def test_a_section_that_is_not_written_adds_nothing(start: Start) -> None:
    """AutomationsCLI is LightningCLI then."""
    assert automations(start("")) == {}


@EITHER
@pytest.mark.parametrize(
    "section",
    [
        "training_automations: {enabled: true}",
        "training_automations:",
        "training_automations: {}",
    ],
)
def test_a_section_that_names_none_adds_all(start: Start, section: str, kind: Any) -> None:
    """As ``build_callbacks`` has it, in either package."""
    assert sorted(automations(start(section, kind=kind))) == ALL


def test_an_empty_section_below_a_subcommand_adds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration may hold the arguments of several subcommands; arguments may come as a mapping, too."""
    whole = tmp_path / "whole.yml"
    trainer = yaml.safe_load(TRAINER)["trainer"]
    below = {"fit": {"trainer": {**trainer, "max_epochs": 0}, "training_automations": {}}}
    whole.write_text(yaml.safe_dump(below))
    monkeypatch.setattr("sys.argv", ["train.py"])
    from_file = AutomationsCLI(Regression, Data, save_config_callback=None, args=[f"--config={whole}", "fit"])
    assert sorted(automations(from_file)) == ALL
    from_mapping = AutomationsCLI(Regression, Data, save_config_callback=None, args={"subcommand": "fit", **below})
    assert sorted(automations(from_mapping)) == ALL


@pytest.mark.parametrize("section", ["training_automations: {enabled: false}", "training_automations: {dry_run: true}"])
def test_settings_of_the_section_hold_for_all(start: Start, section: str) -> None:
    """``enabled: false`` turns all off, ``dry_run`` is handed on."""
    found = automations(start(section))
    assert sorted(found) == ([] if "false" in section else ALL)
    assert all(item.settings.dry_run for item in found.values())


@pytest.mark.parametrize("name", AUTOMATIONS)
@pytest.mark.parametrize("value", ["", "{}", "{max_adjustments: 3}"])
def test_every_name_of_an_automation_is_known(start: Start, name: str, value: str) -> None:
    """An automation may stand under each of its names, empty or with settings."""
    [(automation, item)] = automations(start(f"training_automations: {{{name}: {value}}}")).items()
    assert automation == AUTOMATIONS[name].automation
    assert item._written == ({"max_adjustments"} if "3" in value else set())


@EITHER
def test_what_is_written_counts_as_written_even_where_it_is_the_default(start: Start, kind: Any) -> None:
    """A default that was not written is fitted to the run, one that was written is left."""
    section = """
training_automations:
  IntelligentEarlyStopping: {monitor_metric: val/loss, min_iterations: 5000}
  AdaptiveGradientClipping: {min_threshold: 0.1}
"""
    cli = start(section, kind=kind, subcommand="fit")
    found = automations(cli)
    stopper = found["IntelligentEarlyStopping"]
    assert stopper._written == {"monitor_metric", "min_iterations"}
    assert stopper.effective_settings.min_iterations == 5000
    assert stopper.effective_settings.patience < stopper.settings.patience
    assert found["AdaptiveGradientClipping"]._written == {"min_threshold"}
    assert cli.trainer.global_step == 64


def test_an_argument_changes_one_setting_of_the_file(start: Start) -> None:
    """On the command line as for any other argument."""
    arguments = (
        "--training_automations.IntelligentEarlyStopping.patience=7",
        "--training_automations.AdaptiveGradientClipping.max_threshold=2.5",
        "--training_automations.journal=false",
    )
    section = "training_automations: {IntelligentEarlyStopping: {patience: 5, min_epochs: 3}}"
    found = automations(start(section, *arguments))
    assert sorted(found) == ["AdaptiveGradientClipping", "IntelligentEarlyStopping"]
    assert found["IntelligentEarlyStopping"]._written == {"patience", "min_epochs", "journal"}
    assert found["IntelligentEarlyStopping"].settings.patience == 7
    assert found["AdaptiveGradientClipping"].settings.journal is False


@EITHER
@pytest.mark.parametrize(
    "section",
    [
        "",
        "training_automations:",
        "training_automations: {enabled: true, journal: false}",
        "training_automations: {early_stopping: , AdaptiveGradientClipping: {}}",
        "training_automations: {IntelligentLearningRateScheduler: {max_adjustments: null, fallback: "
        "{scheduler_type: cosine, scheduler_params: {T_max: 40}}}, early_stopping: {criteria: [plateau]}}",
    ],
)
def test_a_printed_configuration_says_what_was_written(
    start: Start, capsys: pytest.CaptureFixture[str], section: str, kind: Any
) -> None:
    """Nothing is added and nothing lost, and what is printed is read to the same."""
    with pytest.raises(SystemExit) as caught:
        start(section, "--print_config", kind=kind)
    assert caught.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(section) or {}
    assert printed.get("training_automations", "not written") == written.get("training_automations", "not written")


def test_the_configuration_that_a_run_saves_says_what_was_written(start: Start, tmp_path: Path) -> None:
    """A run can be repeated from it."""
    section = "training_automations: {AdaptiveGradientClipping: {max_threshold: 5.0}}"
    log = {"trainer.logger": "true", "trainer.max_steps": "2", "trainer.default_root_dir": str(tmp_path / "run")}
    arguments = [f"--{name}={value}" for name, value in log.items()]
    cli = start(section, *arguments, subcommand="fit", save_config_callback=SaveConfigCallback)
    saved = yaml.safe_load((Path(cli.trainer.log_dir) / "config.yaml").read_text())
    assert saved["training_automations"] == {"AdaptiveGradientClipping": {"max_threshold": 5.0}}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "{AdaptiveGradientClipping: {min_threshold: -1.0, max_threshold: 0.0}}",
            "training_automations.AdaptiveGradientClipping.min_threshold: expected a number above 0 and finite, got",
        ),
        (
            "{IntelligentLearningRateScheduler: {min_lr_factor: 3}}",
            "IntelligentLearningRateScheduler.min_lr_factor: expected a number above 0 and at most 1, got 3",
        ),
        (
            "{learning_rate_scheduler: {fallback: {scheduler_type: cosine, scheduler_params: {T_maks: 3}}}}",
            "Did you mean 'T_max'?",
        ),
        ("{early_stopping: , IntelligentEarlyStopping: }", "expected one entry for IntelligentEarlyStopping"),
        ("3", "training_automations: expected a mapping of settings, or nothing for the defaults, got 3 (int)."),
        ("{IntelligentEarlyStoping: }", "training_automations.IntelligentEarlyStoping"),
        ("{IntelligentEarlyStopping: {patiense: 3}}", "patiense"),
        ("{IntelligentEarlyStopping: {patience: soon}}", "soon"),
    ],
)
def test_what_is_wrong_ends_the_program_before_it_starts(
    start: Start, capsys: pytest.CaptureFixture[str], section: str, message: str
) -> None:
    """As ConfigError says it, or jsonargparse for a wrong type and an unknown name; with the status of wrong usage."""
    with pytest.raises(SystemExit) as caught:
        start(f"training_automations: {section}")
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


CALLBACK = """
  callbacks:
    - class_path: lightning_automations.IntelligentEarlyStopping
      init_args: {patience: 9}
"""


@pytest.mark.parametrize("place", ["trainer.callbacks", "trainer_defaults", "argument"])
def test_an_automation_that_the_trainer_has_is_not_doubled(start: Start, place: str) -> None:
    """The one of the trainer holds, the others of the section are added."""

    class WithArgument(AutomationsCLI):
        def add_arguments_to_parser(self, parser: Any) -> None:
            if place == "argument":
                parser.add_lightning_class_args(IntelligentEarlyStopping, "stopper")
                parser.set_defaults({"stopper.patience": 9})

    section = "training_automations: {early_stopping: {patience: 500}, AdaptiveGradientClipping: }"
    section = CALLBACK + section if place == "trainer.callbacks" else section
    by_hand = {"callbacks": IntelligentEarlyStopping(patience=9)} if place == "trainer_defaults" else {}
    cli = start(section, kind=WithArgument, trainer_defaults=by_hand)
    ours = [item for item in cli.trainer.callbacks if type(item).__name__ in ALL]
    assert sorted(type(item).__name__ for item in ours) == ["AdaptiveGradientClipping", "IntelligentEarlyStopping"]
    assert automations(cli)["IntelligentEarlyStopping"].settings.patience == 9


def test_checkpoints_stay_last(start: Start) -> None:
    """Lightning wants them behind all other callbacks, so that they save what those have done."""
    cli = start("training_automations:", "--trainer.enable_checkpointing=true")
    assert cli.trainer.callbacks[-1] is cli.trainer.checkpoint_callback
    assert sorted(automations(cli)) == ALL


def test_a_second_trainer_gets_automations_of_its_own(start: Start) -> None:
    """``instantiate_trainer`` may be called again, for each fold of a cross-validation for instance."""
    cli = start("training_automations:")
    first = automations(cli)
    cli.trainer = cli.instantiate_trainer()
    assert sorted(automations(cli)) == ALL
    assert all(automations(cli)[name] is not first[name] for name in ALL)


@EITHER
@pytest.mark.parametrize(
    "automation",
    [
        AdaptiveGradientClipping,
        DynamicBatchSizeOptimizer,
        IntelligentEarlyStopping,
        IntelligentLearningRateScheduler,
    ],
)
def test_help_describes_every_setting(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, automation: Any, kind: Any
) -> None:
    """``--help`` names the automations, ``.help`` of one its settings, each with type and meaning."""
    monkeypatch.setenv("COLUMNS", "2000")  # no line is broken
    name = automation.__name__
    with pytest.raises(SystemExit):
        start("", "--help", kind=kind)
    assert f"--training_automations.{name}.help" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        start("", f"--training_automations.{name}.help", kind=kind)
    text = " ".join(capsys.readouterr().out.split())
    for setting, description in setting_descriptions(AUTOMATIONS[name]).items():
        assert f"--training_automations.{name}.{setting} " in text
        assert f"{description} (type: " in text


def test_without_jsonargparse_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr("lightning_automations.cli.lightning_cli.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        AutomationsCLI(Regression, Data)
    assert str(caught.value) == "AutomationsCLI needs jsonargparse: pip install 'lightning-automations[cli]'"


def test_a_file_that_only_jsonargparse_reads_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What our reader refuses does not end a program that jsonargparse can start."""
    monkeypatch.setattr("lightning_automations.config.document.BYTES_MAX", 8)
    path = tmp_path / "config.yml"
    path.write_text(TRAINER)
    monkeypatch.setattr("sys.argv", ["train.py", f"--config={path}"])
    assert automations(AutomationsCLI(Regression, Data, save_config_callback=None, run=False)) == {}


class WithoutOptimizer(Regression):
    """Leaves the optimizer to the configuration."""

    configure_optimizers = pl.LightningModule.configure_optimizers


def test_the_example_of_a_program_on_lightning_cli_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its own file, shortened; none of its automations has failed."""
    example = Path(__file__).parents[2] / "example_configs" / "lightning_cli.yml"
    quiet = [f"--trainer.{name}=false" for name in ("logger", "enable_checkpointing", "enable_progress_bar")]
    short = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_model_summary=false"]
    monkeypatch.setattr("sys.argv", ["train.py", "fit", f"--config={example}", *short, *quiet])
    cli = AutomationsCLI(WithoutOptimizer, Data, save_config_callback=None)
    assert cli.trainer.global_step == 32
    assert {name: item.retired for name, item in automations(cli).items()} == dict.fromkeys(ALL, False)
