import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from benchmarks.methods import METHODS, method_named
from benchmarks.methods.method import Study, users_optimizer
from benchmarks.methods.ours import CONFIGURATIONS, OURS, section
from benchmarks.scoring import CONTROL, NOISE, PLAIN
from lightning_automations import IntelligentLearningRateScheduler, build_callbacks
from tests.benchmarks.tiny_runs import OPTIMIZERS, SETUP, STRUCK, TASK, fitted, same_weights

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "methods"
COMPLETE = ("defaults", "seed's block")
"""The configurations of all four automations."""
PEERS = ("zclip", "autoclip", "timm", "pytorch_optimizer", "transformers", "schedulefree", "prodigyopt", "momo")


def test_names_are_unique() -> None:
    """A name stands for one method in tables and result files."""
    assert len({method.name for method in METHODS}) == len(METHODS)


def test_a_name_finds_its_method() -> None:
    """A name that is in no row is an error that lists those that are."""
    assert [method_named(method.name) for method in METHODS] == list(METHODS)
    with pytest.raises(ValueError, match=r"expected one of .*'plain'.*, got 'nobody'"):
        method_named("nobody")


@pytest.mark.parametrize("study", Study)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ours_meets_plain_lightning_and_the_control_in_every_study(study: Study, optimizer: str) -> None:
    """Each comparison has what is compared with, both configurations of ours, and the negative control."""
    taking_part = {method.name for method in METHODS if study in method.studies and optimizer in method.optimizers}
    assert {"plain", "ours, defaults", "ours, seed's block", "ours, doing nothing"} <= taking_part


def test_scores_know_the_controls_by_the_names_in_the_table() -> None:
    """Scoring imports no method, so that it needs no Lightning: its names must not drift."""
    assert {PLAIN, NOISE, CONTROL} <= {method.name for method in METHODS}


def test_every_clipper_runs_as_shipped_and_with_the_skip() -> None:
    """No clipper is judged by non-finite faults alone."""
    clippers = [m.name for m in METHODS if m.studies == {Study.CLIPPING} and m not in OURS]
    shipped = [name for name in clippers if not name.endswith(", skip")]
    assert sorted(clippers) == sorted([*shipped, *(f"{name}, skip" for name in shipped)])


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("*.py")))
def test_the_table_is_read_without_any_peer(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer is imported where its row is used: scores, tables and these tests need none of them."""
    for peer in PEERS:
        monkeypatch.setitem(sys.modules, peer, None)
    assert runpy.run_path(str(FOLDER / file))["__all__"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_negative_control_ends_with_the_weights_of_plain_lightning(optimizer: str) -> None:
    """An automation that does nothing changes not one bit, whatever happens in the run."""
    setup = replace(SETUP, optimizer=optimizer)
    factors = {STRUCK: 100.0}
    plain = fitted(method_named("plain"), setup, factors)
    assert same_weights(plain, fitted(method_named("ours, doing nothing"), setup, factors))
    assert not same_weights(plain, fitted(method_named("ours, defaults"), setup, factors))


def test_the_control_has_all_automations_of_ours() -> None:
    """What does nothing is what would have done something, and only `dry_run` differs."""
    ours = [callback.settings for callback in method_named("ours, defaults").callbacks(SETUP)]
    control = [callback.settings for callback in method_named("ours, doing nothing").callbacks(SETUP)]
    assert control == [replace(settings, dry_run=True) for settings in ours]
    assert control != ours


def test_ours_comes_from_three_files() -> None:
    """No further configuration can be tried until one looks good: every row names one of the three."""
    assert sorted(path.relative_to(ROOT).as_posix() for path in CONFIGURATIONS.values()) == [
        "benchmarks/configurations/defaults.yml",
        "benchmarks/configurations/wide_rate.yml",
        "example_configs/seed_recommendation.yml",
    ]
    names = sorted(path.name for path in (ROOT / "benchmarks" / "configurations").iterdir())
    assert names == ["defaults.yml", "wide_rate.yml"]
    files = [path.relative_to(ROOT).as_posix() for path in CONFIGURATIONS.values()]
    assert all(sum(file in method.source for file in files) == 1 for method in OURS)
    assert len([method for method in METHODS if method.name.startswith("ours")]) == len(OURS)


@pytest.mark.parametrize("configuration", COMPLETE)
def test_a_file_of_ours_is_used_as_it_stands(configuration: str) -> None:
    """What the file builds is what competes, but for the journal and a metric that the task does not log."""
    loaded = build_callbacks(CONFIGURATIONS[configuration])
    competing = method_named(f"ours, {configuration}").callbacks(SETUP)
    assert len(competing) == 4
    for as_written, used in zip(loaded, competing, strict=True):
        expected = replace(as_written.settings, journal=False)
        if configuration == "seed's block" and expected.automation == "IntelligentEarlyStopping":
            expected = replace(expected, monitor_metric="val/loss")
        assert used.settings == expected


def test_the_wide_bounds_are_those_of_the_rates_that_are_off() -> None:
    """From a thousandth to a thousand times the rate, and nothing else is written."""
    (callback,) = method_named("ours, wide bounds: learning rate alone").callbacks(SETUP)
    expected = IntelligentLearningRateScheduler(min_lr_factor=1e-3, max_lr_factor=1e3, journal=False)
    assert callback.settings == expected.settings


def test_the_defaults_are_four_automations_of_which_nothing_is_written() -> None:
    """What is written holds; defaults that fit the run are those of which nothing is written."""
    document: Any = OmegaConf.to_container(OmegaConf.load(CONFIGURATIONS["defaults"]))
    assert len(document["training_automations"]) == 4
    assert set(document["training_automations"].values()) == {None}


def test_the_seeds_block_watches_the_metric_that_it_names_where_the_task_logs_it() -> None:
    """Only a task without pictures replaces it."""
    pictures = replace(SETUP, task=replace(TASK, logged_score="val/psnr"))
    assert section("seed's block", pictures)["IntelligentEarlyStopping"]["monitor_metric"] == "val/psnr"
    assert section("seed's block", SETUP)["IntelligentEarlyStopping"]["monitor_metric"] == "val/loss"


@pytest.mark.parametrize("configuration", COMPLETE)
@pytest.mark.parametrize("alone", ["clipping alone", "learning rate alone"])
def test_an_automation_alone_has_the_settings_that_it_has_among_the_others(configuration: str, alone: str) -> None:
    """It is taken out of the file, not written again."""
    among = [callback.settings for callback in method_named(f"ours, {configuration}").callbacks(SETUP)]
    (callback,) = method_named(f"ours, {configuration}: {alone}").callbacks(SETUP)
    assert callback.settings in among


@pytest.mark.parametrize(
    ("optimizer", "expected"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)], ids=OPTIMIZERS
)
def test_the_users_optimizer_has_the_rate_that_the_user_wrote(
    optimizer: str, expected: type[torch.optim.Optimizer]
) -> None:
    """The scenario's factor is in the rate already; nothing else is changed."""
    made = users_optimizer(nn.Linear(4, 1).parameters(), replace(SETUP, optimizer=optimizer))
    assert type(made) is expected
    assert made.param_groups[0]["lr"] == SETUP.rate
