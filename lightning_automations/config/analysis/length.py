"""How long a run is, as far as its configuration tells."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lightning_automations.config.analysis.fact import Fact
from lightning_automations.config.analysis.values import Values, whole

__all__ = ["Length", "read_length", "read_no_lengths"]

Place = tuple[str, ...]

_COUNTS: tuple[Place, ...] = (
    ("train", "total_iter"),
    ("train", "total_epoch"),
    ("train", "total_epochs"),
    ("train", "epochs"),
    ("datasets", "train", "batch_size_per_gpu"),
    ("datasets", "train", "batch_size"),
    ("val", "val_freq"),
)
"""Where a trainer of image restoration has its counts; LightningCLI checks its own."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """Steps, epochs and batch of a run on one device; each None where it is not known.

    Args:
        steps: Optimizer steps.
        epochs: Epochs, also in part.
        batch_size: Samples that the loader hands out at once.
        accumulation: Batches for one optimizer step.
        samples: Samples of an epoch.
    """

    steps: Fact[int] | None
    epochs: Fact[float] | None
    batch_size: Fact[int] | None
    accumulation: Fact[int] | None
    samples: Fact[int] | None

    @property
    def samples_per_step(self) -> int | None:
        """Samples that one optimizer step sees; None where the batch size is not known."""
        if self.batch_size is None:
            return None
        return self.batch_size.value * (1 if self.accumulation is None else self.accumulation.value)

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps of an epoch; the last batch and the last window of accumulation may be smaller."""
        samples_per_step = self.samples_per_step
        if self.samples is None or samples_per_step is None:
            return None
        return math.ceil(self.samples.value / samples_per_step)


def read_length(values: Values, base: Place, *, samples: int | None, steps: int | None) -> Length:
    """The length that the file tells, and what follows from it.

    Args:
        values: The values of the file.
        base: Where ``trainer`` and ``data`` of LightningCLI stand.
        samples: Samples of an epoch, 1 or more, where the caller knows them.
        steps: Optimizer steps of the run, 1 or more, where the caller knows them; they win over the file's.
    """
    trainer, data = (*base, "trainer"), (*base, "data")
    given = None if steps is None else Fact(value=steps, path="--steps")
    epochs = values.first(
        whole, (*trainer, "max_epochs"), ("train", "total_epoch"), ("train", "total_epochs"), ("train", "epochs")
    )
    written = Length(
        steps=given or values.first(whole, ("train", "total_iter"), (*trainer, "max_steps")),
        epochs=None if epochs is None else Fact(value=float(epochs.value), path=epochs.path, line=epochs.line),
        batch_size=values.first(
            whole,
            ("datasets", "train", "batch_size_per_gpu"),
            ("datasets", "train", "batch_size"),
            (*data, "init_args", "batch_size"),
            (*data, "batch_size"),
        ),
        accumulation=values.first(
            whole, ("datasets", "train", "accum_iter"), ("train", "accum_iter"), (*trainer, "accumulate_grad_batches")
        ),
        samples=None if samples is None else Fact(value=samples, path="--samples"),
    )
    return _completed(written)


def read_no_lengths(values: Values) -> tuple[Fact[str], ...]:
    """What stands where a count of 1 or more belongs and is none, as it is written; that nothing stands is no fault."""
    found = []
    for place in _COUNTS:
        value = values.at(*place)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # A number in quotes is told of as such, and what an interpolation gives is known to the program alone.
        is_word = isinstance(value, str) and "${" not in value and ".".join(place) not in values.quoted_numbers
        if (is_number or is_word) and whole(value) is None:
            found.append(values.told(str(value), *place))
    return tuple(found)


def _completed(length: Length) -> Length:
    """Epochs from steps and steps from epochs; where both are written, what comes first ends the run."""
    per_epoch, steps, epochs = length.steps_per_epoch, length.steps, length.epochs
    if per_epoch is None:
        return length
    if steps is not None and (epochs is None or steps.value <= epochs.value * per_epoch):
        return replace(length, epochs=Fact(value=steps.value / per_epoch, path=steps.path, line=steps.line))
    if epochs is not None:
        return replace(length, steps=Fact(value=int(epochs.value * per_epoch), path=epochs.path, line=epochs.line))
    return length
