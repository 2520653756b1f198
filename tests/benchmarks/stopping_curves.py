"""Curves for the tests of stopping rules."""

from collections.abc import Sequence

from benchmarks.stopping.curve import Curve
from benchmarks.stopping.jobs import Regime


def made_up_curve(
    validation_losses: Sequence[float],
    *,
    training_losses: Sequence[float] | None = None,
    test_losses: Sequence[float] | None = None,
    test_scores: Sequence[float] | None = None,
    rates: Sequence[float] | None = None,
    regime: Regime = Regime.LATE,
    job: str = "a job",
    seed: int = 0,
    held_out: bool = False,
) -> Curve:
    """A run with 10 steps between validations and 20 in an epoch; the test losses are the validation's by default."""
    count = len(validation_losses)
    return Curve(
        job=job,
        regime=regime.value,
        task="snippets" if held_out else "wine",
        kind="sgd",
        seed=seed,
        interval=10,
        steps_per_epoch=20,
        margin=0.05,
        held_out=held_out,
        training_losses=tuple(training_losses or [1.0] * count),
        validation_losses=tuple(validation_losses),
        validation_scores=(0.5,) * count,
        test_losses=tuple(test_losses or validation_losses),
        test_scores=tuple(test_scores or [0.5] * count),
        rates=tuple(rates or [0.1] * count),
    )
