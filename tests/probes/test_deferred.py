"""Readings that stay on the device until they are wanted."""

from __future__ import annotations

import math

import torch

from lightning_automations.probes.deferred import MOST_WAITING, DeferredReadings


def test_readings_come_back_in_order_and_once() -> None:
    """``take`` gives everything since the last one, oldest first, whatever the type and shape."""
    readings = DeferredReadings()
    readings.add(torch.tensor([0.5]))
    readings.add(torch.tensor(2.0, dtype=torch.bfloat16))
    readings.add(torch.tensor(0.1, dtype=torch.float64))
    assert len(readings) == 3
    assert readings.take() == [0.5, 2.0, 0.1]
    assert readings.take() == []


def test_a_resumed_run_has_the_readings_that_waited() -> None:
    """``fetch`` for a checkpoint does not lose readings, and ``restore`` puts them first."""
    readings = DeferredReadings()
    readings.add(torch.tensor(0.1))
    saved = readings.fetch()
    resumed = DeferredReadings()
    resumed.restore(saved)
    for either in (readings, resumed):
        either.add(torch.tensor(0.2))
    assert readings.take() == resumed.take() == [0.10000000149011612, 0.20000000298023224]


def test_no_graph_is_kept_alive() -> None:
    """A reading is detached; NaN and infinity pass."""
    readings = DeferredReadings()
    readings.add(torch.tensor(math.nan, requires_grad=True) * 2)
    readings.add(torch.tensor(math.inf))
    first, second = readings.take()
    assert math.isnan(first)
    assert second == math.inf


def test_readings_that_nobody_fetches_do_not_pile_up_on_the_device() -> None:
    """Now and then they are fetched unasked; none is lost."""
    readings = DeferredReadings()
    for number in range(2 * MOST_WAITING + 5):
        readings.add(torch.tensor(float(number)))
        assert len(readings._waiting) < MOST_WAITING
    assert readings.fetch() == list(map(float, range(2 * MOST_WAITING + 5)))
