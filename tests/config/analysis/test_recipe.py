"""Optimizers, schedulers, clipping, losses and metrics: which key wins, and what counts as one."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_automations.config.analysis.facts import TrainingFacts, read_facts
from lightning_automations.config.analysis.values import named, number, positive, text, whole


def _facts(**data: Any) -> TrainingFacts:
    return read_facts(data)


def test_every_optimizer_is_found_and_others_are_not() -> None:
    """All ``optim_*`` blocks and LightningCLI's, its rate also without ``init_args``; a text is none."""
    read = _facts(
        train={"optim_g": {"type": "Adam", "lr": 1}, "optim_d": {"lr": "fast"}, "optim_x": "Adam", "lr": 3},
        optimizer={"class_path": "SGD", "lr": 0.5},
    )
    assert [
        (one.path, one.type and one.type.value, one.rate and one.rate.value) for one in read.optimizers
    ] == [("train.optim_g", "Adam", 1.0), ("train.optim_d", None, None), ("optimizer", "SGD", 0.5)]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "kind", "arguments"),
    [
        ({"train": {"scheduler": {"type": "A", "n": 1}}, "scheduler": {"type": "B"}}, "A", {"n": 1}),
        ({"train": {"scheduler": {"n": 1}}, "scheduler": {"type": "B"}}, "B", {}),
        ({"train": {"scheduler_g": {"type": "G"}, "scheduler_d": {"type": "D"}}}, "G", {}),
        ({"train": {"schedulers": [3, {"type": "A", "n": 1}]}}, "A", {"n": 1}),
        ({"schedulers": [{"type": "A"}, {"type": "B"}]}, "A", {}),
        ({"lr_scheduler": {"class_path": "a.b.C"}}, "C", {}),
        ({"lr_scheduler": {"class_path": "a.b.C", "init_args": [1]}}, "C", {}),
    ],
)
def test_the_first_scheduler_that_names_a_type_counts(data: dict[str, Any], kind: str, arguments: Any) -> None:
    """Under ``train``, at the root, one for each network, a list of them, LightningCLI's."""
    scheduler = read_facts(data).scheduler
    assert scheduler is not None
    assert (scheduler.type.value, scheduler.arguments) == (kind, arguments)


@pytest.mark.parametrize("data", [{"lr_scheduler": {"class_path": "a."}}, {"scheduler": "A"}, {"lr_scheduler": 1}])
def test_a_scheduler_without_a_name_is_none(data: dict[str, Any]) -> None:
    """A dotted name that ends in a dot names nothing."""
    assert read_facts(data).scheduler is None


@pytest.mark.parametrize("inner", [list(range(3000)), "${scheduler}"])
def test_arguments_that_have_no_plain_value_are_left_out(inner: Any) -> None:
    """More values than a section can mean, and an interpolation that leads to what is around it."""
    scheduler = _facts(scheduler={"type": "A", "inner": inner}).scheduler
    assert scheduler is not None
    assert scheduler.arguments == {}


@pytest.mark.parametrize(
    ("value", "clip"), [(True, True), (1, 1.0), (0.5, 0.5), (0, None), (False, None), (-1, None), ("1", None)]
)
def test_what_clips(value: Any, clip: Any) -> None:
    """True, or a number above 0; a value that clips nothing lets LightningCLI's count."""
    read = _facts(train={"grad_clip": value}).clip
    assert (None if read is None else read.value) == clip
    other = _facts(train={"grad_clip": value}, trainer={"gradient_clip_val": 9}).clip
    assert other is not None
    assert other.value == (9.0 if clip is None else clip)


def test_a_term_without_a_type_is_no_term() -> None:
    """A weight may be missing."""
    terms = _facts(
        train={"losses": [{"type": "a"}, {"loss_weight": 1}, "b", {"type": "c", "loss_weight": 0}]}
    ).loss_terms
    assert [(term.type, term.weight, term.path) for term in terms] == [
        ("a", None, "train.losses.0"),
        ("c", 0.0, "train.losses.3"),
    ]


@pytest.mark.parametrize("switch", ["val_enabled", "metrics_enabled"])
def test_validation_that_is_off_computes_nothing(switch: str) -> None:
    """Whatever metrics it names; the fact stands at the switch."""
    metrics = _facts(val={switch: False, "metrics": {"psnr": {}}}).metrics
    assert metrics is not None
    assert (metrics.value, metrics.path) == ((), f"val.{switch}")
    assert _facts(val={switch: True}).metrics is None


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({}, None),
        ({"val_check_interval": 50}, None),
        ({"val_check_interval": 50, "check_val_every_n_epoch": 1}, None),
        ({"val_check_interval": 50, "check_val_every_n_epoch": None}, 50),
        ({"val_check_interval": 50, "check_val_every_n_epoch": None, "accumulate_grad_batches": 4}, 12),
        ({"val_check_interval": 3, "check_val_every_n_epoch": None, "accumulate_grad_batches": 4}, 1),
        ({"val_check_interval": 1.0, "check_val_every_n_epoch": None}, None),
        ({"val_check_interval": "often", "check_val_every_n_epoch": None}, None),
    ],
)
def test_how_often_lightning_validates(trainer: dict[str, Any], steps: int | None) -> None:
    """In batches across epochs only without an interval in epochs; a float is a share of an epoch."""
    read = _facts(trainer=trainer).validation_steps
    assert (None if read is None else read.value) == steps


@pytest.mark.parametrize(
    ("data", "precision"),
    [
        ({"use_amp": True, "amp_bf16": True}, "bf16"),
        ({"use_amp": True}, "fp16"),
        ({"use_amp": False, "trainer": {"precision": "16-mixed"}}, "16-mixed"),
        ({"use_amp": "yes", "trainer": {"precision": 16}}, None),
    ],
)
def test_mixed_precision(data: dict[str, Any], precision: str | None) -> None:
    """Of either style."""
    read = read_facts(data).mixed_precision
    assert (None if read is None else read.value) == precision


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (True, {"enabled": True}),
        ({"every": 3}, {"every": 3}),
        ({"enabled": True}, {"enabled": True}),
        ({"enabled": False}, None),
        (False, None),
        (None, None),
        ("on", None),
    ],
)
def test_older_automations(value: Any, found: dict[str, Any] | None) -> None:
    """At the root and under ``train``; one that is off lets the other count."""
    for data in ({"auto_vram_management": value}, {"train": {"auto_vram_management": value}}):
        read = read_facts(data).auto_vram_management
        assert (None if read is None else read.value) == found
    both = _facts(dynamic_loss_scheduling=True, train={"dynamic_loss_scheduling": value}).dynamic_loss_scheduling
    assert both is not None
    assert both.path == ("train.dynamic_loss_scheduling" if found else "dynamic_loss_scheduling")


@pytest.mark.parametrize(
    ("read", "value", "result"),
    [
        (whole, 1.5, None),
        (whole, 0, None),
        (whole, 3.0, 3),
        (positive, float("inf"), None),
        (number, float("nan"), None),
        (number, -(2**53), -(2.0**53)),
        (number, 2**53 + 2, None),
        (number, True, None),
        (text, "", None),
        (named, "A", "A"),
        (named, 3, None),
    ],
)
def test_single_values(read: Any, value: Any, result: Any) -> None:
    """What is not of its kind is None."""
    assert read(value) == result
