"""Peers that clip gradients, each as shipped and with the same skip of steps whose gradient is not finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from benchmarks.methods.method import Method, Study

__all__ = ["CLIPPERS", "Clipping", "SkipNonFinite"]

Clipper = Callable[[], object]
"""Clips the gradients of the module that it was made for, in place. Called once before each optimizer step."""
MakeClipper = Callable[[LightningModule], Clipper]


class Clipping(Callback):
    """Calls a clipper once a step, after backward and before the optimizer's step.

    Lightning hands backward to the optimizer as a closure, so a clipper that wraps the optimizer's step, as AutoClip
    recommends it, would come before backward. Here all are called at the hook that Lightning has for this.

    Args:
        make: Makes the clipper at the start of the fit.
    """

    def __init__(self, make: MakeClipper) -> None:
        self._make = make
        self._clip: Clipper = _no_clipping

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clip = self._make(pl_module)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self._clip()


class SkipNonFinite(Clipping):
    """Takes away all gradients of a step whose total norm is not finite; the clipper is not told of such a step.

    The optimizer passes over parameters without a gradient: weights, momentum and step counts stay as they were.
    Lightning's own clipping comes after the callbacks and finds nothing to clip.

    Args:
        make: Makes the clipper of the other steps; left out where another part of the method clips.
    """

    def __init__(self, make: MakeClipper | None = None) -> None:
        super().__init__(_make_no_clipper if make is None else make)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        if get_total_norm(gradients).isfinite():
            super().on_before_optimizer_step(trainer, pl_module, optimizer)
        else:
            for parameter in pl_module.parameters():
                parameter.grad = None


def _no_clipping() -> None:
    """Leave the gradients as they are."""


def _make_no_clipper(_: LightningModule) -> Clipper:
    return _no_clipping


def _zclip(module: LightningModule) -> Clipper:
    from zclip import ZClip

    # What the package's own Lightning callback does.
    return partial(ZClip().step, module)


def _autoclip(module: LightningModule) -> Clipper:
    from autoclip.torch import QuantileClip

    return QuantileClip(module.parameters(), quantile=0.1, global_threshold=True).step


def _adaptive_gradient_clipping(module: LightningModule) -> Clipper:
    # `import timm` imports torchvision, whose wheels do not load beside every build of torch. This file of timm needs
    # nothing but torch.
    file = distribution("timm").locate_file("timm/utils/agc.py")
    spec = spec_from_file_location("timm_utils_agc", str(file))
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {file}")
    agc = module_from_spec(spec)
    spec.loader.exec_module(agc)
    return partial(agc.adaptive_clip_grad, list(module.parameters()))


_STUDIES = frozenset({Study.CLIPPING})
_CLIP_AT_ONE: Mapping[str, Any] = {"gradient_clip_val": 1.0}


def _as_shipped_and_with_skip(name: str, source: str, make: MakeClipper) -> tuple[Method, Method]:
    """Two rows for a clipper."""
    return (
        Method(name=name, source=source, studies=_STUDIES, callbacks=lambda _: [Clipping(make)]),
        Method(
            name=f"{name}, skip",
            source=f"{source}; non-finite steps skipped",
            studies=_STUDIES,
            callbacks=lambda _: [SkipNonFinite(make)],
        ),
    )


CLIPPERS: tuple[Method, ...] = (
    Method(name="clip 1.0", source="Lightning's gradient_clip_val at 1.0", studies=_STUDIES, trainer=_CLIP_AT_ONE),
    Method(
        name="clip 1.0, skip",
        source="Lightning's gradient_clip_val at 1.0; non-finite steps skipped",
        studies=_STUDIES,
        callbacks=lambda _: [SkipNonFinite()],
        trainer=_CLIP_AT_ONE,
    ),
    *_as_shipped_and_with_skip("ZClip", "package zclip, shipped defaults", _zclip),
    *_as_shipped_and_with_skip(
        "AutoClip p10",
        "package autoclip, QuantileClip as in the paper: the 0.1 quantile of the norms of all gradients together; "
        "shipped history of 1,000 steps",
        _autoclip,
    ),
    *_as_shipped_and_with_skip(
        "AGC",
        "package timm, adaptive_clip_grad with shipped defaults on all parameters (timm's training script leaves the "
        "last layer out, whose gradient nothing bounds then)",
        _adaptive_gradient_clipping,
    ),
)
