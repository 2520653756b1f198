"""Fallbacks that are made for another run, and other owners in the trainer's list."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.diagnosis.test_diagnosing import diagnosed, findings

LR, BATCH, CLIP = "IntelligentLearningRateScheduler", "DynamicBatchSizeOptimizer", "AdaptiveGradientClipping"


def _file(name: str, fallback: str) -> str:
    return f"train: {{total_iter: 40000}}\ntraining_automations:\n  {name}: {{{fallback}}}\n"


@pytest.mark.parametrize(
    ("kind", "params", "name", "value"),
    [
        ("step", "step_size: 80000", "step_size", None),
        ("StepLR", "step_size: 40000", "step_size", None),
        ("CosineAnnealingWarmRestarts", "T_0: 100000", "T_0", 40_000),
        ("OneCycleLR", "max_lr: 1, epochs: 10, steps_per_epoch: 100", "epochs", None),
        ("OneCycleLR", "max_lr: 1, total_steps: 1000", "total_steps", 40_000),
        ("LinearLR", "end_factor: 0.1, total_iters: 1000", "total_iters", 40_000),
        ("LinearLR", "total_iters: 90000", "total_iters", 40_000),
        ("PolynomialLR", "total_iters: 1000", "total_iters", 40_000),
    ],
)
def test_a_schedule_of_another_run_is_found(
    kind: str, params: str, name: str, value: int | None, tmp_path: Path
) -> None:
    """Longer, shorter, or with steps beyond the end; a value is offered where only one is right."""
    fallback = f"fallback: {{scheduler_type: {kind}, scheduler_params: {{{params}}}}}"
    (finding,) = findings(diagnosed(_file(LR, fallback), tmp_path), LR)
    assert finding.path.endswith(f"fallback.scheduler_params.{name}")
    assert (finding.change and finding.change.value) == value
    assert not finding.note


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("step", "step_size: 10000"),
        ("CosineAnnealingWarmRestarts", "T_0: 1000"),
        ("OneCycleLR", "max_lr: 1, epochs: 400, steps_per_epoch: 100"),
        ("OneCycleLR", "max_lr: 1, epochs: 4, steps_per_epoch: 100, total_steps: 40000"),
        ("LinearLR", "total_iters: 1000"),
        ("LinearLR", "start_factor: 0.1, end_factor: 1, total_iters: 1000"),
        ("ConstantLR", "factor: 0.3, total_iters: 1000"),
    ],
)
def test_a_schedule_that_fits_the_run_is_left(kind: str, params: str, tmp_path: Path) -> None:
    """Restarts within the run, and a warm-up that ends at the rate itself and keeps it."""
    fallback = f"fallback: {{scheduler_type: {kind}, scheduler_params: {{{params}}}}}"
    assert findings(diagnosed(_file(LR, fallback), tmp_path), LR) == []


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ("max_threshold: 10, fallback: {threshold: 50}", 10.0),
        ("min_threshold: 2, initial_threshold: 3, fallback: {threshold: 1}", 2.0),
        ("fallback: {threshold: 50}", None),
        ("min_threshold: 2, initial_threshold: 3", None),
        ("max_threshold: 10, fallback: {threshold: 10}", None),
    ],
)
def test_a_fallback_beyond_a_written_bound_is_found(settings: str, value: float | None, tmp_path: Path) -> None:
    """A bound that is not written makes room, and a fallback that is not written is the threshold that held last."""
    found = findings(diagnosed(_file(CLIP, settings), tmp_path), CLIP)
    assert [finding.change and finding.change.value for finding in found] == ([] if value is None else [value])


@pytest.mark.parametrize(
    ("callback", "name", "note"),
    [
        ("lightning.pytorch.callbacks.BatchSizeFinder", BATCH, False),
        ("lightning.pytorch.callbacks.GradientAccumulationScheduler", BATCH, False),
        ("LearningRateFinder", LR, True),
    ],
)
def test_another_owner_in_the_list_is_found(callback: str, name: str, note: bool, tmp_path: Path) -> None:
    """Two that choose the batch; a rate that is found before the start is only where the automation starts."""
    text = f"trainer:\n  callbacks:\n  - class_path: {callback}\ntraining_automations:\n  {name}:\n"
    (finding,) = findings(diagnosed(text, tmp_path), name)
    assert (finding.line, finding.note) == (3, note)
    assert callback in finding.found
    alone = "training_automations: {IntelligentEarlyStopping: }\n"
    assert diagnosed(f"trainer: {{callbacks: {callback}}}\n{alone}", tmp_path).is_sound()
