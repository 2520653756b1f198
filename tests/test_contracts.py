"""Every rule that holds for every automation, over every automation, from one registry."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner

from lightning_automations.callbacks.base import AutomationCallback
from tests.callbacks.helpers import (
    Regression,
    SaveAfterValidation,
    SaveAt,
    journal_entries,
    make_trainer,
    train_loader,
    val_loader,
    weights,
)
from tests.registry import EPOCHS, EVERY_ROW, ROWS, STEPS_PER_EPOCH, Hungry, Row
from tests.requirements import validates_resumed_epoch

every_automation = pytest.mark.parametrize("row", EVERY_ROW, ids=str)


def fit(module: Regression, *callbacks: Any, checkpoint: str | None = None, **options: Any) -> Any:
    """Eight epochs of 16 steps with a validation after each."""
    trainer = make_trainer(callbacks, **{"max_epochs": EPOCHS, **options})
    trainer.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint)
    return trainer


def same(one: Regression, other: Regression) -> bool:
    """Whether two modules have the same weights, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def story(automation: AutomationCallback) -> list[tuple[Any, ...]]:
    """What was done, when and why; the evidence may hold readings of the machine, which differ from run to run."""
    return [(item.step, item.epoch, item.parameter, item.old, item.new, item.reason) for item in automation.adjustments]


@every_automation
def test_it_acts_in_the_run_of_the_registry(row: Row) -> None:
    """Without this, the rules below would be tested on automations that do nothing."""
    automation = row.make()
    fit(row.module(), automation)
    assert automation.adjustments


@every_automation
def test_defaults_build_and_the_frozen_settings_are_what_was_written(row: Row) -> None:
    """Every setting has a default; what is written arrives; nobody can change it later."""
    assert row.automation().settings == row.automation.settings_class()
    settings = row.make().settings
    assert {name: getattr(settings, name) for name in row.settings} == row.settings
    with pytest.raises(AttributeError):
        settings.enabled = False  # type: ignore[misc]


def test_state_keys_are_unique_and_of_the_identity_alone() -> None:
    """A checkpoint finds its automation again whatever the settings have become."""
    keys = [row.make().state_key for row in EVERY_ROW]
    assert keys == [row.automation.__name__ for row in EVERY_ROW]
    assert [row.automation().state_key for row in EVERY_ROW] == keys


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=validates_resumed_epoch if row.validates else ()) for row in EVERY_ROW], ids=str
)
def test_resumed_from_any_place_it_decides_as_if_never_interrupted(row: Row, tmp_path: Path) -> None:
    """Checkpoints in the middle of an epoch and of a period, and after a validation, lead to the same run.

    Not among them is the last batch of an epoch: resumed from there, Lightning leaves out the validation that follows.
    """
    whole, module = row.make(), row.module()
    saves = [*(SaveAt(step, tmp_path) for step in (1, 37, 63)), SaveAfterValidation(32, tmp_path)]
    fit(module, whole, *saves)
    for save in saves:
        resumed, twin = row.make(), row.module()
        fit(twin, resumed, checkpoint=save.path)
        assert story(resumed) == story(whole)
        assert same(module, twin)


@every_automation
def test_state_is_json_and_loads_as_weights_only(row: Row, tmp_path: Path) -> None:
    """The state survives JSON, and torch loads a checkpoint of ours without running code."""
    automation, save = row.make(), SaveAt(37, tmp_path)
    fit(row.module(), automation, save)
    state = torch.load(save.path, weights_only=True)["callbacks"][automation.state_key]
    assert json.loads(json.dumps(state)) == state
    twin = row.make()
    twin.load_state_dict(state)
    assert twin.state_dict() == state


@every_automation
def test_checkpoints_load_with_and_without_us(row: Row, tmp_path: Path) -> None:
    """A run can start with us from a checkpoint made without us, and go on without us from one of ours."""
    plain, save = Regression(), SaveAfterValidation(16, tmp_path / "plain")
    fit(plain, save, max_epochs=2)
    automation = row.make()
    trainer = fit(Regression(), automation, checkpoint=save.path)
    assert trainer.global_step > 16
    ours = SaveAfterValidation(16, tmp_path / "ours")
    fit(row.module(), row.make(), ours, max_epochs=2)
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint need to be provided"):
        trainer = fit(Regression(), checkpoint=ours.path, max_epochs=2)
    assert trainer.global_step == 2 * STEPS_PER_EPOCH


@every_automation
@pytest.mark.parametrize("settings", [{"enabled": False}, {"dry_run": True}], ids=["disabled", "dry_run"])
def test_disabled_or_dry_the_weights_are_those_of_plain_lightning(row: Row, settings: dict[str, bool]) -> None:
    """Bit for bit, over the whole run."""
    plain, module = Regression(), Regression()
    fit(plain)
    trainer = fit(module, row.make(**settings))
    assert trainer.global_step == EPOCHS * STEPS_PER_EPOCH
    assert same(plain, module)


@every_automation
def test_a_dry_run_journals_what_would_have_been_done(row: Row, tmp_path: Path) -> None:
    """Every adjustment of a dry run is marked as not applied; an error that would have been survived is noted."""
    path = tmp_path / "journal.jsonl"
    automation = row.make(dry_run=True, journal=str(path))
    if row.module is not Hungry:
        fit(row.module(), automation)
    else:
        with pytest.raises(torch.OutOfMemoryError):
            fit(row.module(), automation)
    decided = [entry for entry in journal_entries(path) if entry["event"] in ("adjustment", "note")]
    assert decided
    assert [entry["applied"] for entry in decided if "applied" in entry] == [False] * len(automation.adjustments)


@every_automation
def test_quiet_under_fast_dev_run(row: Row) -> None:
    """A development run changes nothing and decides nothing."""
    automation = row.make()
    fit(Regression(), automation, fast_dev_run=4)
    assert automation.adjustments == []


@every_automation
def test_validation_outside_of_fit_leaves_the_state_alone(row: Row) -> None:
    """fit, validate, fit again with the same trainer: validate is invisible, the second fit goes on."""
    automation, module = row.make(), row.module()
    trainer = fit(module, automation, max_epochs=4)
    before = automation.state_dict()
    trainer.validate(module, val_loader(), verbose=False)
    assert automation.state_dict() == before
    trainer.should_stop = False
    trainer.fit_loop.max_epochs = EPOCHS
    trainer.fit(module, train_loader(), val_loader())
    assert automation.adjustments[: len(before["adjustments"])] == [
        type(adjustment)(**{**saved, "reason": adjustment.reason})
        for saved, adjustment in zip(before["adjustments"], automation.adjustments, strict=False)
    ]


@every_automation
def test_a_new_trainer_starts_afresh(row: Row) -> None:
    """The same callback in a second trainer makes the same adjustments as in the first."""
    automation = row.make()
    fit(row.module(), automation)
    first = story(automation)
    fit(row.module(), automation)
    assert story(automation) == first


@every_automation
def test_copied_and_pickled_after_a_fit(row: Row) -> None:
    """A copy knows what the original knew and can train."""
    automation = row.make()
    fit(row.module(), automation)
    for twin in (copy.deepcopy(automation), pickle.loads(pickle.dumps(automation))):
        assert twin.adjustments == automation.adjustments
        fit(row.module(), twin)
        assert story(twin) == story(automation)


@every_automation
@pytest.mark.parametrize("method", ["observe", "read", "extra_state", "values"])
def test_a_brain_that_fails_retires_and_training_goes_on(
    row: Row, method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An injected error wherever the automation is asked ends the automation, not the run nor its checkpoints."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    automation = row.make()

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("broken on purpose")

    asked = automation.brain if method == "observe" else automation
    monkeypatch.setattr(type(asked), method, broken)
    save = SaveAt(5, tmp_path)
    trainer = fit(row.module(), automation, save)
    assert trainer.global_step == EPOCHS * STEPS_PER_EPOCH
    assert automation.retired
    assert torch.load(save.path, weights_only=True)["global_step"] == 5


@every_automation
def test_the_tuner_is_left_alone(row: Row, tmp_path: Path) -> None:
    """lr_find and scale_batch_size give what they give without us, and leave our state as it was."""

    class Tunable(Regression):
        batch_size = 4

        def train_dataloader(self) -> Any:
            return train_loader(self.batch_size)

        def val_dataloader(self) -> Any:
            return val_loader()

    def tune(*callbacks: Any) -> tuple[Any, int]:
        module = Tunable()
        trainer = make_trainer(callbacks, max_epochs=2, default_root_dir=tmp_path)
        finder = Tuner(trainer).lr_find(module, num_training=20, attr_name="rate")
        size = Tuner(trainer).scale_batch_size(module, max_trials=2, steps_per_trial=2, init_val=4)
        assert finder is not None
        return finder.results, int(size or 0)

    automation = row.make()
    before = automation.state_dict()
    assert tune(automation) == tune()
    assert automation.state_dict() == before


@every_automation
def test_both_namespaces_accept_it(row: Row) -> None:
    """It is a Callback of lightning and of pytorch_lightning."""
    automation = row.make()
    assert isinstance(automation, Callback)
    assert isinstance(automation, pytorch_lightning.Callback)


@validates_resumed_epoch
def test_all_together_resume_as_if_never_interrupted(tmp_path: Path) -> None:
    """All automations in one run, on a module that runs out of memory, stopped in mid-epoch and resumed."""

    def automations() -> list[AutomationCallback]:
        return [row.make() for row in ROWS]

    module_type = next(row.module for row in ROWS if row.module is not Regression)
    whole, module, save = automations(), module_type(), SaveAt(37, tmp_path)
    fit(module, *whole, save)
    resumed, twin = automations(), module_type()
    fit(twin, *resumed, checkpoint=save.path)
    assert [story(automation) for automation in resumed] == [story(automation) for automation in whole]
    assert same(module, twin)


def test_all_together_dry_the_weights_are_those_of_plain_lightning(tmp_path: Path) -> None:
    """dry_run on everything: bit-identical weights, and a journal of what would have been done."""
    plain, module, logger = Regression(), Regression(), CSVLogger(tmp_path)
    fit(plain)
    automations = [row.make(dry_run=True) for row in ROWS]
    fit(module, *automations, logger=logger, log_every_n_steps=4)
    assert same(plain, module)
    entries = journal_entries(Path(logger.log_dir) / "automations.jsonl")
    assert {entry["automation"] for entry in entries} == {row.automation.__name__ for row in ROWS}
    made = [entry for entry in entries if entry["event"] == "adjustment"]
    assert made
    assert not any(entry["applied"] for entry in made)
