"""The stopping rules that are compared: one row each, in the order of the tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.stopping.curve import Curve, Validation
from benchmarks.stopping.libraries import keras_rule, lightning_rule
from benchmarks.stopping.ours import block, our_rule
from benchmarks.stopping.published import AdaptivePatience, GeneralizationLoss, ProgressQuotient, SuccessiveRises
from lightning_automations.core.settings import RunLength

__all__ = ["RULES", "Rule", "stop_of"]

Stops = Callable[[Validation], bool]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A way to decide when a training is over.

    Args:
        name: As it stands in tables.
        source: Where it comes from, with its settings where they are not the shipped defaults.
        start: Makes the rule for one run, of which it may know the length; then it is called with each validation, in
            order, until it says to stop.
        package: What must be installed for it.
    """

    name: str
    source: str
    start: Callable[[RunLength], Stops]
    package: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the rule can be replayed here."""
        return self.package is None or find_spec(self.package) is not None


def stop_of(rule: Rule, curve: Curve) -> int | None:
    """Index of the validation after which the rule stops the run, or None.

    Args:
        rule: A fresh one is started, and told the length of the run.
        curve: The run.
    """
    stops = rule.start(RunLength(steps=curve.budget, epochs=curve.epochs))
    return next((index for index, now in enumerate(curve.validations()) if stops(now)), None)


def _never(_: Validation) -> bool:
    return False


def _ours(configuration: str, source: str) -> Rule:
    return Rule(
        name=f"ours, {configuration}",
        source=f"IntelligentEarlyStopping, {source}; watches the validation loss",
        start=lambda run: our_rule(block(configuration), run),
    )


RULES: tuple[Rule, ...] = (
    Rule(name="never stop", source="the full run", start=lambda _: _never),
    Rule(name="Lightning", source="EarlyStopping as shipped: patience 3", start=lambda _: lightning_rule()),
    Rule(name="Lightning, patience 10", source="EarlyStopping", start=lambda _: lightning_rule(patience=10)),
    Rule(name="Keras", source="EarlyStopping as shipped: patience 0", start=lambda _: keras_rule(), package="keras"),
    Rule(
        name="Keras, patience 10",
        source="EarlyStopping",
        start=lambda _: keras_rule(patience=10),
        package="keras",
    ),
    Rule(name="GL5", source="Prechelt 1998: 5 % above the lowest", start=lambda _: GeneralizationLoss(5)),
    Rule(name="PQ0.5", source="Prechelt 1998, the lowest threshold there", start=lambda _: ProgressQuotient(0.5)),
    Rule(name="UP2", source="Prechelt 1998: 2 rises in a row, in strips of 5", start=lambda _: SuccessiveRises(2)),
    Rule(name="UP3", source="Prechelt 1998: 3 rises", start=lambda _: SuccessiveRises(3)),
    Rule(name="UP4", source="Prechelt 1998: 4 rises", start=lambda _: SuccessiveRises(4)),
    Rule(name="AutoGluon", source="patience 0.3 x best round + 10, its defaults", start=lambda _: AdaptivePatience()),
    _ours("defaults", "benchmarks/configurations/defaults.yml"),
    _ours("seed's block", "example_configs/seed_recommendation.yml"),
)
