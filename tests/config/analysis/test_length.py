"""How long a run is: steps and epochs from each other, and what the caller tells."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.config.analysis.facts import read_facts
from lightning_automations.config.analysis.length import Length

BATCH = {"datasets": {"train": {"batch_size_per_gpu": 4, "accum_iter": 2}}}


def _length(train: dict[str, Any], **told: int) -> Length:
    return read_facts({"train": train, **BATCH}, **told).length


def _both(length: Length) -> tuple[Any, Any]:
    steps, epochs = length.steps, length.epochs
    return (steps and (steps.value, steps.path), epochs and (epochs.value, epochs.path))


@pytest.mark.parametrize(
    ("train", "told", "steps", "epochs"),
    [
        ({}, {}, None, None),
        ({}, {"samples": 80}, None, None),
        ({"total_iter": 100}, {}, (100, "train.total_iter"), None),
        ({"total_iter": 100}, {"samples": 80}, (100, "train.total_iter"), (10.0, "train.total_iter")),
        ({"total_epoch": 3}, {}, None, (3.0, "train.total_epoch")),
        ({"epochs": 3}, {"samples": 81}, (33, "train.epochs"), (3.0, "train.epochs")),
        ({"total_iter": 100, "epochs": 3}, {"samples": 80}, (30, "train.epochs"), (3.0, "train.epochs")),
        ({"total_iter": 25, "epochs": 3}, {"samples": 80}, (25, "train.total_iter"), (2.5, "train.total_iter")),
        ({"total_iter": 100}, {"steps": 7}, (7, "--steps"), None),
        ({}, {"steps": 5, "samples": 80}, (5, "--steps"), (0.5, "--steps")),
    ],
)
def test_steps_and_epochs(train: dict[str, Any], told: dict[str, int], steps: Any, epochs: Any) -> None:
    """What comes first ends the run; each says what it was taken from."""
    assert _both(_length(train, **told)) == (steps, epochs)


def test_samples_alone_tell_nothing_without_a_batch_size() -> None:
    """The steps of an epoch are not known then."""
    length = read_facts({"train": {"epochs": 3}}, samples=80).length
    assert (length.samples_per_step, length.steps_per_epoch, length.steps) == (None, None, None)


def test_a_batch_without_accumulation_is_a_step() -> None:
    """LightningCLI's batch size beside its ``data``."""
    assert read_facts({"data": {"batch_size": 6}}).length.samples_per_step == 6


@given(samples=st.integers(1, 10**6), steps=st.integers(1, 10**6), epochs=st.integers(1, 1000))
def test_a_run_is_never_longer_than_what_is_written(samples: int, steps: int, epochs: int) -> None:
    """Steps and epochs agree with each other."""
    length = _length({"total_iter": steps, "total_epoch": epochs}, samples=samples)
    per_epoch = math.ceil(samples / 8)
    assert length.steps is not None
    assert length.epochs is not None
    assert length.steps.value == min(steps, epochs * per_epoch)
    assert length.epochs.value == pytest.approx(length.steps.value / per_epoch)
