"""What the learning-rate automation reads in a window, and that no checkpoint changes it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.callbacks.rate_readings import ACROSS, RateReadings, in_places
from lightning_automations.core.progress import WINDOW_STEPS
from tests.callbacks.helpers import Regression, make_trainer

LOSSES = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf)), max_size=45)


def alike(one: list[float], other: list[float]) -> bool:
    """Equal, NaN to NaN included."""
    return one == pytest.approx(other, nan_ok=True)


def places_one_by_one(losses: list[float]) -> list[float]:
    """The slow twin: each loss goes to the place in which its own part of the window falls."""
    if len(losses) <= WINDOW_STEPS:
        return [losses[place] if place < len(losses) else math.nan for place in range(WINDOW_STEPS)]
    places = []
    for place in range(WINDOW_STEPS):
        first, last = (round(edge * len(losses) / WINDOW_STEPS) for edge in (place, place + 1))
        known = [loss for index, loss in enumerate(losses) if first <= index < last and math.isfinite(loss)]
        places.append(sum(known) / len(known) if known else math.nan)
    return places


@given(LOSSES)
def test_a_window_has_one_loss_for_every_step(losses: list[float]) -> None:
    """In their order, the mean of the finite ones where a step has several; as the slow twin says."""
    assert alike(in_places(losses), places_one_by_one(losses))


@pytest.mark.parametrize("batches", [2, 4, 8])
def test_under_accumulation_each_place_is_one_step(batches: int) -> None:
    """No place mixes the batches of two steps."""
    losses = [float(step) for step in range(WINDOW_STEPS) for _ in range(batches)]
    assert in_places(losses) == [float(step) for step in range(WINDOW_STEPS)]


class Steps:
    """Gradients and steps of one module, read before each of them."""

    def __init__(self, optimizers: int = 1) -> None:
        self.module, self.trainer = Regression(), make_trainer()
        parameters = list(self.module.parameters())
        groups = [parameters] if optimizers == 1 else [[parameter] for parameter in parameters]
        self.trainer.strategy._optimizers = [torch.optim.SGD(group, lr=0.1) for group in groups]

    def take(self, readings: RateReadings, gradient: float) -> None:
        """One step with this gradient everywhere."""
        for parameter in self.module.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        readings.before_step(self.trainer)
        for optimizer in self.trainer.optimizers:
            optimizer.step()


def test_each_step_is_compared_with_the_one_before() -> None:
    """The gradient that goes on has cosine 1, the one that turns -1; the first step has nothing before it."""
    steps, readings = Steps(), RateReadings(reads_alignment=True)
    for gradient in (1.0, 2.0, -1.0, -3.0):
        steps.take(readings, gradient)
    taken = readings.take()
    assert readings.alignments_of(taken)[:3] == pytest.approx([1.0, -1.0, 1.0], abs=1e-5)
    assert all(math.isnan(cosine) for cosine in readings.alignments_of(taken)[3:])
    assert set(taken) | {"metric"} == set(ACROSS)
    # The next window goes on from the last step of this one.
    steps.take(readings, -1.0)
    assert readings.alignments_of(readings.take())[0] == pytest.approx(1.0, abs=1e-5)


def test_a_cleared_window_forgets_the_way() -> None:
    """After a return the way gone leads through other weights: the step after it has nothing before it."""
    steps, readings = Steps(), RateReadings(reads_alignment=True)
    steps.take(readings, 1.0)
    steps.take(readings, 1.0)
    readings.losses.add(steps.trainer, {"loss": torch.tensor(1.0)})
    readings.clear()
    steps.take(readings, 1.0)
    taken = readings.take()
    assert all(math.isnan(taken[name]) for name in taken if name != "non_finite")


def test_what_cannot_be_read_is_not() -> None:
    """Several optimizers, sparse gradients, and a window that is not wanted: no memory is held either."""
    two, readings = Steps(optimizers=2), RateReadings(reads_alignment=True)
    two.take(readings, 1.0)
    assert not readings.alignment.active

    sparse, readings = Steps(), RateReadings(reads_alignment=True)
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    sparse.trainer.strategy._optimizers = [torch.optim.SGD(embedding.parameters(), lr=0.1)]
    readings.before_step(sparse.trainer)
    assert not readings.reads_alignment
    assert not readings.alignment.active

    steps, readings = Steps(), RateReadings(reads_alignment=True)
    steps.take(readings, 1.0)
    assert readings.alignment.active
    readings.read_alignment(wanted=False)
    steps.take(readings, 1.0)
    assert not readings.alignment.active


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12), st.integers(0, 12))
def test_a_window_that_is_interrupted_goes_on(gradients: list[float], stop: int) -> None:
    """Losses and cosines are those of the window that was not."""

    def window(stop: int | None) -> dict[str, Any]:
        steps, readings = Steps(), RateReadings(reads_alignment=True)
        for index, gradient in enumerate(gradients):
            if index == stop:
                state, tensors = json.loads(json.dumps(readings.state_dict())), readings.tensors()
                readings = RateReadings(**state)
                readings.load_tensors(steps.trainer, tensors)
            steps.take(readings, gradient)
            readings.losses.add(steps.trainer, {"loss": torch.tensor(gradient)})
        return readings.take()

    whole, interrupted = window(None), window(stop)
    assert alike(list(interrupted.values()), list(whole.values()))
