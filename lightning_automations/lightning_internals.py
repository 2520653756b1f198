"""The only module that touches private attributes of Lightning.

Each function has a test in ``tests/callbacks/test_lightning_internals_*.py`` that fails when Lightning changes what it
relies on. Nothing public serves in these places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.fabric.plugins.precision.amp import _optimizer_handles_unscaling
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

__all__ = [
    "LoggedResults",
    "averaged_models",
    "closure_parts",
    "closure_with_parts",
    "loader_states",
    "logged_metric_object",
    "logged_now",
    "logging_step",
    "logs_are_due",
    "names_logged_in_training",
    "names_logged_now",
    "recount_epoch",
    "renew_iterator",
    "replace_closures",
    "resumes_begun_epoch",
    "starts_epoch_silently",
    "step_of_piece",
    "training_loaders",
    "unscales_by_itself",
]

_PACKAGES = ("lightning", "pytorch_lightning")


def logs_are_due(trainer: Trainer) -> bool:
    """Whether Lightning itself logs after this batch (``log_every_n_steps``, and at the end of a stopped run)."""
    connector: Any = trainer._logger_connector
    return bool(connector.should_update_logs)


def logging_step(trainer: Trainer) -> int:
    """The step under which Lightning logs training metrics; with several optimizers it is not ``global_step``."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def logged_metric_object(trainer: Trainer, name: str) -> Metric | None:
    """The torchmetrics object that was logged under this name in the fit, or None: a number was, or nothing."""
    epoch_loop: Any = trainer.fit_loop.epoch_loop
    for results in (epoch_loop.val_loop._results, epoch_loop._results):
        for result in results.result_metrics:
            if not result.is_tensor and name in results._forked_name(result, on_step=False):
                return result.value if isinstance(result.value, Metric) else None
    return None


def unscales_by_itself(optimizer: Optimizer) -> bool:
    """Whether gradients are still scaled in ``on_before_optimizer_step`` under a GradScaler (fused optimizers)."""
    return bool(_optimizer_handles_unscaling(optimizer))


def logged_now(trainer: Trainer, name: str) -> Tensor | None:
    """What the loop that runs now has logged under this name; ``callback_metrics`` also holds values of earlier loops.

    With several loaders Lightning itself shows, at a loop's end, what was logged for none of them.
    """
    results: Any = trainer._results
    for result in _logged_now(results):
        if name in results._forked_name(result, on_step=False):
            value = results._get_cache(result, on_step=False)
            return value if isinstance(value, Tensor) else None
    return None


def names_logged_now(trainer: Trainer) -> set[str]:
    """Names of what the loop that runs now has logged, for whichever loader."""
    results: Any = trainer._results
    return {name for result in _logged_now(results) for name in results._forked_name(result, on_step=False)}


def _logged_now(results: Any) -> list[Any]:
    return [result for result in results.result_metrics if result.meta.on_epoch and not result.has_reset]


def names_logged_in_training(trainer: Trainer) -> set[str]:
    """Names logged in this epoch's training so far, those included whose value is known at its end only."""
    results = trainer.fit_loop.epoch_loop._results
    return {name for result in results.result_metrics for name in results._forked_name(result, on_step=False)}


def replace_closures(trainer: Trainer, wrap: Callable[[Any, Mapping[str, Any], Optimizer], Any]) -> Callable[[], None]:
    """Let every training step of automatic optimization run in ``wrap(closure, keywords, optimizer)``.

    Returns:
        A function that puts Lightning's own way back.
    """
    loop: Any = trainer.fit_loop.epoch_loop.automatic_optimization
    before = loop.__dict__.get("_make_closure")
    make = loop._make_closure

    def make_closure(kwargs: Mapping[str, Any], optimizer: Optimizer, batch_idx: int) -> Any:
        return wrap(make(kwargs, optimizer, batch_idx), kwargs, optimizer)

    def put_back() -> None:
        if before is None:
            del loop._make_closure
        else:
            loop._make_closure = before

    loop._make_closure = make_closure
    return put_back


def closure_parts(closure: Any) -> tuple[Callable[[], Any], Callable[[Tensor], None] | None, Callable[[], None] | None]:
    """What Lightning's closure is made of: training step, backward, zero_grad; the last two only where they are due."""
    return closure._step_fn, closure._backward_fn, closure._zero_grad_fn


def closure_with_parts(
    closure: Any,
    step: Callable[[], Any],
    backward: Callable[[Tensor], None] | None,
    zero_grad: Callable[[], None] | None,
) -> Any:
    """A closure of the same class made of other parts."""
    return type(closure)(step_fn=step, backward_fn=backward, zero_grad_fn=zero_grad)


def step_of_piece(trainer: Trainer, keywords: Mapping[str, Any], piece: Any) -> Callable[[], Any]:
    """The training step with a piece in place of the batch."""
    loop: Any = trainer.fit_loop.epoch_loop.automatic_optimization
    step: Callable[[], Any] = loop._make_step_fn({**keywords, "batch": piece})
    return step


class LoggedResults:
    """What the loop that runs has logged so far: put back after a failed try, combined over pieces.

    Kept by reference: Lightning replaces the values it accumulates and never writes into them.

    Args:
        trainer: The trainer, about to run a step.
        validation: Whether it is one of validation.
    """

    def __init__(self, trainer: Trainer, *, validation: bool = False) -> None:
        epoch_loop: Any = trainer.fit_loop.epoch_loop
        self._results: Any = (epoch_loop.val_loop if validation else epoch_loop)._results
        self._connector: Any = trainer._logger_connector
        self._module: Any = trainer.lightning_module
        self._batch = self._results.batch
        self._kept = {key: dict(result.__dict__) for key, result in self._results.items()}
        self._hook = self._module._current_fx_name
        self._last_hook = self._connector._current_fx
        self._first_of_epoch = self._connector._first_loop_iter
        self._step_values: dict[str, list[tuple[Any, float]]] = {}

    def put_back(self) -> None:
        """Nothing was logged since."""
        for key in [key for key in self._results if key not in self._kept]:
            del self._results[key]
        for key, attributes in self._kept.items():
            result = self._results[key]
            result.__dict__.clear()
            result.__dict__.update(attributes)
        # Hooks that end in an error leave their name behind.
        self._module._current_fx_name = self._hook
        self._connector._current_fx = self._last_hook
        self._connector._first_loop_iter = self._first_of_epoch
        self._step_values = {}
        self.whole_batch()

    def whole_batch(self) -> None:
        """What is logged now is logged for the whole batch."""
        self._results.batch, self._results.batch_size = self._batch, None

    def begin_piece(self, piece: Any, *, first: bool) -> None:
        """What is logged now is logged for this piece."""
        self._results.batch, self._results.batch_size = piece, None
        if not first:
            # Else the first log call of a hook in an epoch's first batch drops what the pieces before have logged.
            self._connector._first_loop_iter = False

    def end_piece(self, share: float) -> None:
        """Keep the values that are logged per step, with the piece's share of the batch."""
        for key, result in self._results.items():
            value = result._forward_cache
            values = self._step_values.setdefault(key, [])
            seen = values[-1][0] if values else self._kept.get(key, {}).get("_forward_cache")
            if result.meta.on_step and isinstance(value, Tensor) and value is not seen:
                values.append((value, share))

    def end_pieces(self) -> None:
        """The values of the step become those of the whole batch."""
        for key, values in self._step_values.items():
            result = self._results[key]
            if len(values) > 1 and result._forward_cache is values[-1][0]:
                result._forward_cache = _over_pieces(result.meta, values)
                if result.is_tensor and not result.meta.on_epoch:
                    result.value = result._forward_cache
        self._connector._first_loop_iter = self._first_of_epoch
        self.whole_batch()


def _over_pieces(meta: Any, values: list[tuple[Tensor, float]]) -> Tensor:
    stacked = torch.stack([value for value, _ in values])
    if meta.is_sum_reduction:
        return stacked.sum(0)
    if meta.is_max_reduction:
        return stacked.amax(0)
    if meta.is_min_reduction:
        return stacked.amin(0)
    shares = torch.tensor([share for _, share in values], dtype=stacked.dtype, device=stacked.device)
    mean: Tensor = torch.tensordot(shares / shares.sum(), stacked, dims=1)
    return mean


def training_loaders(trainer: Trainer) -> list[Any]:
    """The loaders of the training data as Lightning uses them, once training starts."""
    loop: Any = trainer.fit_loop
    return list(loop._combined_loader.flattened)


def loader_states(checkpoint: Mapping[str, Any]) -> list[Any]:
    """Where the training loaders were that can say so; Lightning forgets it once it has told them."""
    states: list[Any] = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])
    return list(states)


def starts_epoch_silently(trainer: Trainer) -> bool:
    """Whether an epoch begins now without ``on_train_epoch_start``: resumed from the very end of the one before."""
    loop: Any = trainer.fit_loop
    at_the_end = loop.epoch_loop.batch_progress.is_last_batch and loop.epoch_loop.batch_progress.current.ready > 0
    # Lightning before 2.5 knows no such resumption.
    return bool(at_the_end and getattr(loop.epoch_loop, "restarted_on_train_batch_end", False))


def resumes_begun_epoch(trainer: Trainer) -> bool:
    """Whether ``on_train_epoch_start`` is called now in an epoch of which the run before has trained batches."""
    epoch_loop: Any = trainer.fit_loop.epoch_loop
    # Lightning from 2.5 on leaves the hook out there.
    calls_the_hook = not hasattr(epoch_loop, "restarted_on_train_batch_end")
    return bool(calls_the_hook and epoch_loop.restarting and epoch_loop.batch_progress.current.ready > 0)


def recount_epoch(trainer: Trainer, *, batches: int, validate_every: float | None) -> None:
    """Let Lightning count an epoch's batches again after its one loader's length has changed, also while it runs.

    Args:
        trainer: The trainer.
        batches: Batches of the epoch, those that were trained included.
        validate_every: Batches between two validations; infinite and None as Lightning uses them.
    """
    loop: Any = trainer.fit_loop
    loop._combined_loader.limits = [batches]
    loop.max_batches = batches
    loop._data_fetcher.length = batches
    trainer.val_check_batch = validate_every


def renew_iterator(trainer: Trainer, *, states: Sequence[Any] = ()) -> None:
    """Between two epochs: where Lightning has made the iterator already, in the first of a run, let it be made again.

    Args:
        trainer: The trainer.
        states: What ``loader_states`` gave, in a run that is resumed.
    """
    loop: Any = trainer.fit_loop
    # Lightning before 2.5.3 has no is_resuming and asks its loop only.
    if trainer.current_epoch == 0 or getattr(loop, "is_resuming", False) or loop.epoch_loop.restarting:
        if loop.restarting:
            loop._combined_loader._load_state_dicts(list(states))
        iter(loop._data_fetcher)


def averaged_models(trainer: Trainer) -> list[nn.Module]:
    """The averages that Lightning's callbacks keep of the weights, with their counts of what went into them."""
    kept: list[nn.Module] = []
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        kinds = {kind.__name__ for kind in type(callback).__mro__ if kind.__module__.split(".")[0] in _PACKAGES}
        if not kinds.isdisjoint(("WeightAveraging", "StochasticWeightAveraging")):
            kept += [callback._average_model] if callback._average_model is not None else []
        if "StochasticWeightAveraging" in kinds:
            count = nn.Module()  # until the averaging starts there is no count, which stands for zero
            zero = torch.zeros((), dtype=torch.long)
            count.register_buffer("n_averaged", zero if callback.n_averaged is None else callback.n_averaged)
            kept.append(count)
    return kept
