"""Whether the first steps accept a rate, lower it or come back to it."""

import math
import random

import pytest

from lightning_automations.core.rate_trial import Attempt, Verdict, attempt_of, verdict_of

BEFORE = Attempt(level=1.0, error=0.01, exploded=False)
WORSE = Attempt(level=1.3, error=0.01, exploded=False)
EXPLODED = Attempt(level=math.inf, error=0.0, exploded=True)


def noisy(level: float, steps: int, *, slope: float = 0.0, noise: float = 0.02, seed: int = 0) -> list[float]:
    """Losses on a line."""
    source = random.Random(seed)
    return [level + slope * step + noise * source.gauss(0, 1) for step in range(steps)]


def judged(
    losses: list[float], *, start: float = 1.0, points_on: bool = False, before: Attempt | None = None
) -> Verdict:
    """The verdict on an attempt with these losses."""
    attempt = attempt_of(losses, start_loss=start)
    return verdict_of(losses, attempt, start_loss=start, points_on=points_on, before=before)


@pytest.mark.parametrize(
    ("losses", "before", "verdict"),
    [
        (noisy(1.0, 10, slope=-0.05), None, Verdict.ACCEPT),
        (noisy(1.0, 10), None, Verdict.GO_ON),
        (noisy(1.0, 20), None, Verdict.LOWER),
        (noisy(3.0, 10), None, Verdict.LOWER),
        (noisy(0.7, 10), BEFORE, Verdict.ACCEPT),
        ([0.9, 0.97, 0.88, 0.98, 0.85, 0.96, 0.9, 0.84, 0.98, 0.87], WORSE, Verdict.ACCEPT),
        (noisy(1.0, 10), BEFORE, Verdict.GO_ON),
        (noisy(1.0, 20), BEFORE, Verdict.COME_BACK),
        (noisy(1.0, 20), EXPLODED, Verdict.ACCEPT),
        (noisy(3.0, 10), EXPLODED, Verdict.LOWER),
    ],
)
def test_verdicts(losses: list[float], before: Attempt | None, verdict: Verdict) -> None:
    """A falling loss is accepted, one that stands still is tried lower once, one that explodes as long as it does."""
    assert judged(losses, before=before) is verdict


def test_a_gradient_that_points_on_accepts_at_once() -> None:
    """The loss need not have moved: the rate is low."""
    assert judged(noisy(1.0, 10), points_on=True) is Verdict.ACCEPT


def test_spikes_do_not_hide_a_loss_that_falls() -> None:
    """Three bad batches spoil a slope, but not the level."""
    losses = noisy(0.6, 20)
    for place in (3, 9, 12):
        losses[place] *= 1000
    assert judged(losses) is Verdict.ACCEPT


def test_an_explosion_needs_no_small_noise() -> None:
    """Losses that jump by orders of magnitude are noisy themselves."""
    assert judged([1.0, 20.0, 90.0, 30.0, 60.0, 99.0, 63.0, 49.0, 82.0, 52.0]) is Verdict.LOWER


def test_a_lower_rate_has_to_fall_below_the_start() -> None:
    """To be better than a rate that first made it worse is not enough: large rates often begin like that."""
    high = Attempt(level=1.3, error=0.01, exploded=False)
    assert judged(noisy(1.0, 20), before=high) is Verdict.COME_BACK


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_a_rate_that_works_is_seldom_lowered(noise: float) -> None:
    """Of 300 runs whose loss falls by 2 % a step under this noise, at most one in twenty starts again."""
    lowered = 0
    for seed in range(300):
        source = random.Random(seed)
        losses = [0.98**step * (1 + noise * source.gauss(0, 1)) for step in range(20)]
        first = judged(losses[:10], start=losses[0])
        last = judged(losses, start=losses[0]) if first is Verdict.GO_ON else first
        lowered += last is Verdict.LOWER
    assert lowered <= 15
