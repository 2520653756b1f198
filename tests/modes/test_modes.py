"""All automations in every way in which Lightning trains: each acts or says why not, and none gets in the way."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import pytest
import torch

from lightning_automations.callbacks.base import AutomationCallback
from tests.callbacks.helpers import Regression, make_trainer, weights
from tests.modes.table import MODES, Mode
from tests.registry import EPOCHS, ROWS, Row

# Lightning's own, where a training step returns None
pytestmark = pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
every_mode = pytest.mark.parametrize("mode", [pytest.param(mode, marks=mode.needs) for mode in MODES], ids=str)


def fit(mode: Mode, module: Any, *automations: AutomationCallback, **options: Any) -> Any:
    """A whole run in this mode."""
    given = {"max_epochs": EPOCHS, **mode.trainer(), **options}
    trainer = make_trainer([*given.pop("callbacks", []), *automations], **given)
    trainer.fit(module, *mode.data())
    return trainer


def make(mode: Mode, row: Row, **settings: Any) -> AutomationCallback:
    """The automation of a row, told which metric there is in this mode."""
    watched = {"monitor_metric": mode.monitor_metric} if "monitor_metric" in row.settings else {}
    return row.make(**watched, **settings)


def module_of(mode: Mode, row: Row) -> Any:
    """The module of the automation's row, made to train in this mode; a plain one where the automation stays out."""
    return mode.module(Regression if str(row) in mode.stays_out else row.module)()


@every_mode
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_each_acts_or_says_why_not(mode: Mode, row: Row, caplog: pytest.LogCaptureFixture) -> None:
    """With the errors of automations let through."""
    caplog.set_level(logging.INFO, logger="lightning_automations")
    automation = make(mode, row)
    fit(mode, module_of(mode, row), automation)
    if str(row) in mode.stays_out:
        assert mode.stays_out[str(row)] in caplog.text
    else:
        assert automation.adjustments
    assert not automation.retired


@cache
def plain(mode: Mode) -> tuple[int, list[torch.Tensor]]:
    """Steps and weights of plain Lightning in this mode."""
    module = mode.module(Regression)()
    return fit(mode, module).global_step, weights(module)


@every_mode
def test_dry_the_weights_are_those_of_plain_lightning(mode: Mode) -> None:
    """Bit for bit, with all automations deciding."""
    steps, expected = plain(mode)
    module = mode.module(Regression)()
    assert fit(mode, module, *(make(mode, row, dry_run=True) for row in ROWS)).global_step == steps
    assert all(torch.equal(a, b) for a, b in zip(expected, weights(module), strict=True))


@every_mode
def test_all_together_train_as_long_as_plain_lightning_unless_they_stop(mode: Mode) -> None:
    """No automation is in the way of another."""
    steps, _ = plain(mode)
    together, module = [make(mode, row) for row in ROWS], mode.module(Regression)()
    trainer = fit(mode, module, *together)
    stopped = any(item.parameter == "should_stop" for automation in together for item in automation.adjustments)
    assert trainer.global_step == steps or (stopped and trainer.global_step < steps)
    assert all(torch.isfinite(parameter).all() for parameter in weights(module))
    assert not any(automation.retired for automation in together)
