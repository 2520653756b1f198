"""An automation that is told nothing says so, once, and one that is told something does not."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_automations.callbacks.silence import NOTHING_READ, Silence
from tests.callbacks.told import Told, fit, scheduler


class Manual(Told):
    """Optimizes by hand and returns nothing."""

    def __init__(self, **metrics: Any) -> None:
        super().__init__(metrics=metrics)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


@pytest.mark.parametrize(
    ("module", "settings", "options", "told"),
    [
        pytest.param(Manual(), {"monitor_validation": False}, {}, 1, id="nothing is asked of the validation"),
        pytest.param(Manual(), {}, {"limit_val_batches": 0}, 1, id="there is no validation"),
        pytest.param(Manual(), {}, {"max_steps": 20}, 1, id="the validation logs nothing"),
        pytest.param(Told(), {"monitor_loss": False}, {"max_steps": 20}, 1, id="the loss is left out"),
        pytest.param(Manual(), {}, {"max_steps": 12}, 0, id="the validation is to come"),
        pytest.param(Manual(), {"monitor_validation": False}, {"max_steps": 90}, 0, id="too early to say"),
        pytest.param(Manual(val_loss=float), {}, {}, 0, id="a metric comes"),
        pytest.param(Told(), {}, {"val_check_interval": 4}, 0, id="the validation comes before the first window"),
        pytest.param(Told(), {"monitor_validation": False}, {}, 0, id="a loss comes"),
    ],
)
def test_nothing_to_read_is_said_once(
    module: Told, settings: Any, options: Any, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    """After the first validation, or after ten windows where none is to come."""
    with caplog.at_level("INFO", logger="lightning_automations"):
        fit(module, scheduler(**settings), **options)
    assert sum(NOTHING_READ in message for message in caplog.messages) == told


def test_a_count_goes_on_from_where_it_was() -> None:
    """A resumed run neither starts the count again nor repeats what was said."""
    readings = {"something_read": False, "validated": False, "validates": False}
    silence = Silence(8)
    assert [silence.is_to_be_told(**readings) for _ in range(4)] == [False, True, False, False]
    assert not Silence(None).is_to_be_told(**readings)
