"""What the settings of all automations have in common."""

from collections.abc import Iterable
from dataclasses import FrozenInstanceError, dataclass
from typing import Annotated, Any, ClassVar

import pytest
from annotated_types import Ge, Gt
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.settings import AutomationSettings, RunLength


@dataclass(frozen=True, kw_only=True)
class Settings(AutomationSettings):
    """A small automation."""

    automation: ClassVar[str] = "Small"
    ordered: ClassVar[tuple[tuple[str, str], ...]] = (("low", "high"),)
    shares_of_steps: ClassVar[dict[str, float]] = {"patience": 0.2}
    shares_of_epochs: ClassVar[dict[str, float]] = {"min_epochs": 0.5}

    low: Annotated[float, Gt(0)] = 0.1
    high: Annotated[float, Gt(0)] = 1.0
    patience: Annotated[int, Ge(1)] = 1000
    min_epochs: Annotated[int, Ge(0)] = 10

    def contradictions(self) -> Iterable[Problem]:
        if self.patience < self.min_epochs:
            yield Problem(path="patience", expected="at least min_epochs", got=str(self.patience))


def test_defaults_are_sound_and_what_the_contract_says() -> None:
    """An automation with nothing written is on, changes things, and keeps its journal beside the logs."""
    settings = AutomationSettings()
    assert (settings.enabled, settings.max_adjustments, dict(settings.fallback)) == (True, None, {})
    assert (settings.on_error, settings.dry_run, settings.journal) == ("fallback", False, "auto")


def test_settings_are_frozen() -> None:
    """What was checked cannot be changed afterwards."""
    with pytest.raises(FrozenInstanceError):
        Settings().low = 2.0  # type: ignore[misc]


def test_values_are_fitted_to_their_types() -> None:
    """YAML's 2e3 is a count and its 1 a number."""
    settings = Settings(patience=2e3, high=1)  # type: ignore[arg-type]
    assert (settings.patience, type(settings.patience)) == (2000, int)
    assert (settings.high, type(settings.high)) == (1.0, float)


def test_a_setting_shared_by_all_is_checked_too() -> None:
    """Types and ranges of the base hold in every automation."""
    with pytest.raises(ConfigError) as caught:
        Settings(max_adjustments=-1, journal=None, on_error="ignore", fallback=1)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "4 problems in the configuration:\n"
        "  Small.max_adjustments: expected a whole number at least 0 or null, got -1 (int).\n"
        "  Small.fallback: expected a mapping, got 1 (int).\n"
        "  Small.on_error: expected one of 'fallback', 'raise', got 'ignore' (str).\n"
        "  Small.journal: expected true or false or a text, got null."
    )


def test_a_lower_bound_above_its_upper_bound_is_a_problem() -> None:
    """Both values are named, and what to do."""
    with pytest.raises(ConfigError) as caught:
        Settings(low=2)
    assert str(caught.value) == "Small.low: expected at most high (1.0), got 2.0. Lower low or raise high."


def test_equal_bounds_are_sound() -> None:
    """A range of one value is a range."""
    assert Settings(low=1, high=1).low == 1.0


@pytest.mark.parametrize("values", [{"low": -1}, {"low": 2, "high": "x"}])
def test_bounds_are_compared_only_where_each_is_sound(values: dict[str, Any]) -> None:
    """One mistake is one problem: a wrong value is not compared as well."""
    with pytest.raises(ConfigError) as caught:
        Settings(**values)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        ({"patience": 5, "low": 3}, ["low", "patience"]),
        ({"patience": 5, "low": -3}, ["low", "patience"]),
        ({"patience": 5, "min_epochs": "x"}, ["min_epochs"]),
        ({"low": 3, "report": True, "journal": False, "dry_run": 1}, ["dry_run", "low", "report"]),
        ({"report": True, "journal": 1}, ["journal"]),
    ],
)
def test_contradictions_are_reported_with_the_rest(values: dict[str, Any], paths: list[str]) -> None:
    """All but those about a setting that is wrong by itself: one mistake is one problem."""
    with pytest.raises(ConfigError) as caught:
        Settings(**values)
    assert [problem.path for problem in caught.value.problems] == [f"Small.{path}" for path in paths]


def test_the_signature_shows_every_setting() -> None:
    """Editors and LightningCLI see names, types and defaults, keyword only."""
    signature = Settings.signature()
    assert list(signature.parameters) == ["self", *Settings.types()]
    patience = signature.parameters["patience"]
    assert (patience.default, patience.kind) == (1000, patience.KEYWORD_ONLY)
    assert patience.annotation == Annotated[int, Ge(1)]


def test_from_mapping_is_the_constructor_for_known_names() -> None:
    """A mapping and keywords make the same settings."""
    assert Settings.from_mapping({"low": 0.5, "patience": 20}) == Settings(low=0.5, patience=20)


def test_unknown_names_and_wrong_values_are_reported_together() -> None:
    """A user mends everything in one go."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_mapping({"patiense": 5, "low": "x"})
    assert str(caught.value) == (
        "2 problems in the configuration:\n"
        "  Small.patiense: expected a setting of Small, got the unknown name 'patiense'. Did you mean 'patience'?\n"
        "  Small.low: expected a number above 0, got 'x' (str)."
    )


@pytest.mark.parametrize("name", ["automation", "ordered", "zzz"])
def test_a_name_that_is_near_to_none_gets_the_list(name: str) -> None:
    """Attributes of the class are no settings."""
    with pytest.raises(ConfigError) as caught:
        Settings.from_mapping({name: 5})
    assert str(caught.value) == (
        f"Small.{name}: expected a setting of Small, got the unknown name '{name}'. Known names: enabled, "
        "max_adjustments, fallback, on_error, dry_run, journal, report, progress_bar, low, high, patience, min_epochs."
    )


@pytest.mark.parametrize(
    ("run", "written", "patience", "min_epochs"),
    [
        (RunLength(steps=100, epochs=4), (), 20, 2),
        (RunLength(steps=101, epochs=5), (), 21, 3),
        (RunLength(steps=10**6, epochs=100), (), 1000, 10),
        (RunLength(steps=100, epochs=4), ("patience",), 1000, 2),
        (RunLength(steps=None, epochs=None), (), 1000, 10),
        (RunLength(steps=0, epochs=0), (), 1, 1),
    ],
)
def test_counts_that_were_not_written_fit_the_run(
    run: RunLength, written: tuple[str, ...], patience: int, min_epochs: int
) -> None:
    """A default is shortened to its share of a short run, never below one, never lengthened; what is written holds."""
    fitted = Settings().fitted(run, written)
    assert (fitted.patience, fitted.min_epochs) == (patience, min_epochs)


@given(
    low=st.floats(allow_nan=True) | st.integers(),
    high=st.floats(allow_nan=True) | st.integers(),
    patience=st.integers(-5, 2000),
)
def test_settings_that_exist_are_sound(low: float, high: float, patience: int) -> None:
    """Whatever was given: either a ConfigError, or values within their ranges and in order."""
    try:
        settings = Settings(low=low, high=high, patience=patience)
    except ConfigError:
        assert not (0 < low <= high < float("inf") and patience >= 10)
    else:
        assert 0 < settings.low <= settings.high
        assert settings.patience >= max(1, settings.min_epochs)


@pytest.mark.parametrize("report", [True, "page.html"])
def test_a_report_needs_a_journal(report: bool | str) -> None:
    """It is made from nothing else; without a report a journal may be off, and with one it may be anywhere."""
    with pytest.raises(ConfigError) as caught:
        Settings(journal=False, report=report)
    assert str(caught.value).startswith(f"Small.report: expected false, for journal is false too, got {report!r}.")
    assert Settings(journal=False).report is False
    assert Settings(journal="story.jsonl", report=report).report == report
