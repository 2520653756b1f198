"""A checkpoint that holds something else where our state should be: a clear error, or a run that goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_automations.callbacks.base import AutomationCallback
from tests.callbacks.helpers import Regression, SaveAt, make_trainer, train_loader, val_loader
from tests.registry import EPOCHS, ROWS, Row
from tests.requirements import checkpoint_from

every_automation = pytest.mark.parametrize("row", ROWS, ids=str)
WRONG = (None, "text", -1, 1e400, True, [], {}, [[["deep"]]], {"unknown": 1}, 10**400, "x" * 100_000)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a state; of a list, its first item stands for all."""
    yield path
    members = (
        value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    )
    for key, member in members:
        yield from places(member, (*path, key))


def put(state: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the state with something else at one place."""
    if not path:
        return value
    changed = copy.deepcopy(state)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return changed


def refusal(automation: AutomationCallback, state: Any) -> str | None:
    """What is said to a state, and whether the automation then is as it was."""
    fresh = automation.state_dict()
    try:
        automation.load_state_dict(state)
    except ValueError as error:
        return str(error) if automation.state_dict() == fresh else "it was changed"
    return None


@every_automation
def test_whatever_stands_in_a_state_it_loads_or_is_refused_with_its_name(row: Row) -> None:
    """Something wrong at every place of a real state, one at a time: at most a ValueError that names the automation."""
    automation = row.make()
    make_trainer([automation], max_epochs=EPOCHS).fit(row.module(), train_loader(), val_loader())
    state = automation.state_dict()
    messages = [refusal(row.make(), put(state, path, wrong)) for path in places(state) for wrong in WRONG]
    refused = [message for message in messages if message is not None]
    assert len(refused) > 100
    assert all(str(row) in message and len(message) < 1500 for message in refused)


@every_automation
def test_a_run_resumed_from_what_was_not_refused_goes_on(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types are right and numbers are nonsense: the automation may retire, the run is done."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")
    save = SaveAt(37, tmp_path)
    make_trainer([row.make(), save], max_epochs=EPOCHS).fit(row.module(), train_loader(), val_loader())
    checkpoint = torch.load(save.path, weights_only=True)
    state = checkpoint["callbacks"][str(row)]
    for path in places(state["brain"]):
        damaged = put(state["brain"], path, 10**9)
        try:
            row.make().load_state_dict({**state, "brain": damaged})
        except ValueError:
            continue
        torch.save({**checkpoint, "callbacks": {str(row): {**state, "brain": damaged}}}, tmp_path / "damaged.ckpt")
        module, automation = Regression(), row.make()
        trainer = make_trainer([automation], max_epochs=4)
        trainer.fit(
            module, train_loader(), val_loader(), **checkpoint_from(tmp_path / "damaged.ckpt", weights_only=True)
        )
        assert trainer.current_epoch == 4 or automation.adjustments[-1].parameter == "should_stop"
        assert torch.isfinite(module.layer.weight).all()
