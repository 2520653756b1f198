"""Our automations, from three files and no other: defaults, the block that the analysis recommends, and wide bounds.

Two things in a file give way to the scoreboard. The journal is off, since runs have no folder. The seed's block watches
``val/psnr``, which only a task with pictures logs: elsewhere it watches ``val/loss``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from omegaconf import OmegaConf

from benchmarks.methods.method import Method, RunSetup, Study
from lightning_automations import build_callbacks

__all__ = ["CONFIGURATIONS", "OURS", "section"]

_ROOT = Path(__file__).parents[2]
CONFIGURATIONS: Mapping[str, Path] = {
    "defaults": _ROOT / "benchmarks" / "configurations" / "defaults.yml",
    "seed's block": _ROOT / "example_configs" / "seed_recommendation.yml",
    "wide bounds": _ROOT / "benchmarks" / "configurations" / "wide_rate.yml",
}
_SECTION = "training_automations"
_STOPPER = "IntelligentEarlyStopping"
_EVERY_TASK_LOGS = "val/loss"


def section(configuration: str, setup: RunSetup) -> dict[str, Any]:
    """What a configuration says about our automations, fitted to the scoreboard as the module's docstring tells.

    Args:
        configuration: A name in ``CONFIGURATIONS``.
        setup: The run.
    """
    document: Any = OmegaConf.to_container(OmegaConf.load(CONFIGURATIONS[configuration]))
    written: dict[str, Any] = document["train"][_SECTION] if "train" in document else document[_SECTION]
    stopping = written.get(_STOPPER)
    if stopping is not None and stopping["monitor_metric"] not in (_EVERY_TASK_LOGS, setup.task.logged_score):
        stopping["monitor_metric"] = _EVERY_TASK_LOGS
    return {**written, "journal": False}


def _all(configuration: str, **on_section: Any) -> Callable[[RunSetup], list[Callback]]:
    def callbacks(setup: RunSetup) -> list[Callback]:
        return build_callbacks({_SECTION: {**section(configuration, setup), **on_section}})

    return callbacks


def _alone(configuration: str, automation: str) -> Callable[[RunSetup], list[Callback]]:
    """One automation of a file, as it stands there."""

    def callbacks(setup: RunSetup) -> list[Callback]:
        written = section(configuration, setup)
        return build_callbacks({_SECTION: {automation: written[automation], "journal": written["journal"]}})

    return callbacks


_SOURCES = {
    "defaults": "benchmarks/configurations/defaults.yml",
    "seed's block": "example_configs/seed_recommendation.yml; val/psnr is replaced by val/loss where it is not logged",
}


def _rows(configuration: str) -> tuple[Method, ...]:
    """All four automations, and alone those that have peers."""
    name, source = f"ours, {configuration}", _SOURCES[configuration]
    return (
        Method(
            name=name,
            source=f"all four automations of {source}",
            studies=frozenset(Study),
            callbacks=_all(configuration),
        ),
        Method(
            name=f"{name}: clipping alone",
            source=f"AdaptiveGradientClipping of {source}",
            studies=frozenset({Study.CLIPPING}),
            callbacks=_alone(configuration, "AdaptiveGradientClipping"),
        ),
        Method(
            name=f"{name}: learning rate alone",
            source=f"IntelligentLearningRateScheduler of {source}",
            studies=frozenset({Study.RATE}),
            callbacks=_alone(configuration, "IntelligentLearningRateScheduler"),
        ),
    )


OURS: tuple[Method, ...] = (
    *_rows("defaults"),
    *_rows("seed's block"),
    Method(
        name="ours, wide bounds: learning rate alone",
        source="IntelligentLearningRateScheduler of benchmarks/configurations/wide_rate.yml: bounds 0.001 to 1000",
        studies=frozenset({Study.RATE}),
        callbacks=_alone("wide bounds", "IntelligentLearningRateScheduler"),
    ),
    Method(
        name="ours, doing nothing",
        source=f"negative control: all four automations of {_SOURCES['defaults']} with dry_run",
        studies=frozenset(Study),
        callbacks=_all("defaults", dry_run=True),
        # Enough to show a difference, since not one bit may differ.
        scenarios=frozenset({"clean", "random spikes", "one NaN", "loss x10 half-way", "rate x10"}),
    ),
)
