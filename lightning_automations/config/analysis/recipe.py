"""Optimizers, scheduler, clipping, losses and metrics of a training configuration, of either style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_automations.config.analysis.fact import Fact, LossTerm, Optimizer, Scheduler
from lightning_automations.config.analysis.values import Values, flag, named, number, positive, text
from lightning_automations.config.interpolation import Path, dotted

__all__ = [
    "CLIP_KEYS",
    "read_clip",
    "read_loss_terms",
    "read_mixed_precision",
    "read_no_clip",
    "read_optimizers",
    "read_scheduler",
    "read_switch",
]

Place = tuple[str, ...]

CLIP_KEYS = ("grad_clip", "grad_clip_norm", "clip_grad_norm")
"""What trainers of image restoration call the norm at which they clip."""


def read_optimizers(values: Values, base: Place) -> tuple[Optimizer, ...]:
    """All ``optim_*`` blocks under ``train``, and LightningCLI's ``optimizer``."""
    places: list[Place] = [("train", key) for key in values.keys("train") if key.startswith("optim")]
    found = [
        Optimizer(path=dotted(place), type=values.fact(text, *place, "type"), rate=values.fact(positive, *place, "lr"))
        for place in places
        if isinstance(values.at(*place), Mapping)
    ]
    place = (*base, "optimizer")
    if isinstance(values.at(*place), Mapping):
        rate = values.first(positive, (*place, "init_args", "lr"), (*place, "lr"))
        found.append(Optimizer(path=dotted(place), type=values.fact(named, *place, "class_path"), rate=rate))
    return tuple(found)


def read_scheduler(values: Values, base: Place) -> Scheduler | None:
    """The first scheduler that names a type: of the file, or LightningCLI's ``lr_scheduler``.

    A file has ``scheduler`` under ``train`` or at the root, one for each network (``scheduler_g``), or a list of them
    (``schedulers``).
    """
    for written in _scheduler_places(values):
        kind = values.fact(text, *written, "type")
        if kind is not None:
            arguments = {name: value for name, value in _mapping(values, *written).items() if name != "type"}
            return _scheduler(values, kind.value, written, arguments, written)
    place: Path = (*base, "lr_scheduler")
    class_path = values.fact(named, *place, "class_path")
    if class_path is None:
        return None
    inside = (*place, "init_args")
    return _scheduler(values, class_path.value, place, _mapping(values, *inside), inside)


def read_clip(values: Values, base: Place) -> Fact[bool | float] | None:
    """The first of ``CLIP_KEYS`` under ``train``, or ``trainer.gradient_clip_val``; None where none clips."""
    places = [("train", key) for key in CLIP_KEYS]
    return values.first(_clipping, *places, (*base, "trainer", "gradient_clip_val"))


def read_no_clip(values: Values) -> tuple[Fact[str], ...]:
    """Words where a clip value belongs; what an interpolation gives is known to the program alone."""
    written = ((("train", key), values.at("train", key)) for key in CLIP_KEYS)
    return tuple(
        values.told(value, *place)
        for place, value in written
        if isinstance(value, str) and "${" not in value and dotted(place) not in values.quoted_numbers
    )


def read_loss_terms(values: Values) -> tuple[LossTerm, ...]:
    """The entries of ``train.losses`` that name a type."""
    terms = []
    for place in values.items("train", "losses"):
        kind = text(values.at(*place, "type"))
        if kind is not None:
            weight = number(values.at(*place, "loss_weight"))
            terms.append(LossTerm(type=kind, weight=weight, path=dotted(place)))
    return tuple(terms)


def read_mixed_precision(values: Values, base: Place) -> Fact[str] | None:
    """``bf16`` or ``fp16`` for ``use_amp``, else the text of ``trainer.precision``."""
    if flag(values.at("use_amp")):
        return values.told("bf16" if values.at("amp_bf16") is True else "fp16", "use_amp")
    return values.fact(text, *base, "trainer", "precision")


def read_switch(values: Values, *places: Place) -> Fact[Mapping[str, Any]] | None:
    """An older automation, as its mapping: ``true`` alone counts as ``enabled: true``. None where it is turned off."""
    for place in places:
        value = values.plain(*place)
        found = {"enabled": True} if value is True else value
        if isinstance(found, dict) and found.get("enabled", True) is not False:
            return values.told(found, *place)
    return None


def _scheduler_places(values: Values) -> list[Path]:
    places: list[Path] = []
    for outer in (("train",), ()):
        keys = [key for key in values.keys(*outer) if key.startswith("scheduler_")]
        places += [(*outer, "scheduler"), *((*outer, key) for key in keys), *values.items(*outer, "schedulers")]
    return places


def _mapping(values: Values, *place: str | int) -> dict[str, Any]:
    value = values.plain(*place)
    return value if isinstance(value, dict) else {}


def _scheduler(values: Values, kind: str, place: Path, arguments: Mapping[str, Any], inside: Path) -> Scheduler:
    return Scheduler(type=values.told(kind, *place), arguments=arguments, arguments_path=dotted(inside))


def _clipping(value: Any) -> bool | float | None:
    return True if value is True else positive(value)
