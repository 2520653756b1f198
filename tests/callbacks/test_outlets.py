"""What loggers, progress bars and the report get of a run, and that none of them hurts it."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from lightning.pytorch.callbacks import Callback, RichProgressBar, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger

from lightning_automations import AdaptiveGradientClipping, IntelligentLearningRateScheduler
from lightning_automations.callbacks import final_report
from lightning_automations.callbacks.progress_bar import ProgressBarValues
from lightning_automations.core.errors import ConfigError
from lightning_automations.reporting import errors
from tests.callbacks.helpers import Regression, make_trainer, train_loader, val_loader

LENIENT = pytest.mark.usefixtures("lenient")


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are survived, as outside of tests."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")


def fitted(*loggers: Logger, steps: int = 24, callbacks: Any = (), bar: bool = False, **settings: Any) -> Any:
    """A short run with the clipping, which adjusts; returns the trainer."""
    clipping = AdaptiveGradientClipping(monitoring_frequency=4, gradient_history_size=8, **settings)
    trainer = make_trainer(
        [clipping, *callbacks],
        max_steps=steps,
        logger=list(loggers),
        log_every_n_steps=4,
        enable_progress_bar=bar,
    )
    trainer.fit(Regression(), train_loader(), val_loader())
    assert trainer.global_step == steps
    assert clipping.adjustments
    return trainer


class Told(Logger):
    """A logger that remembers, with the methods and the experiment of the one that its class is named after."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.run_id = "run"

    @property
    def name(self) -> str:
        return "told"

    @property
    def version(self) -> str:
        return "0"

    @property
    def experiment(self) -> Any:
        return SimpleNamespace(
            add_text=lambda *args: self.calls.append(("add_text", *args)),
            log_text=lambda *args: self.calls.append(("artifact", *args)),
        )

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls.append(("metrics", step, metrics))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("hyperparameters", params))

    def log_text(self, **details: Any) -> None:
        self.calls.append(("table", details))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        """The calls of one kind."""
        return [call for call in self.calls if call[0] == kind]


class TensorBoardLogger(Told):
    """Found by its name."""


class WandbLogger(Told):
    """Found by its name."""


class MLFlowLogger(Told):
    """Found by its name."""


def test_every_logger_gets_the_numbers() -> None:
    """Not only the first."""
    first, second = TensorBoardLogger(), MLFlowLogger()
    fitted(first, second)
    for logger in (first, second):
        named = [name for _, _, metrics in logger.of("metrics") for name in metrics]
        assert "automation/adaptive_gradient_clipping/threshold" in named


def test_events_are_text_where_a_logger_has_it() -> None:
    """TensorBoard at the step, the others once, at the end."""
    board, table, artifact = TensorBoardLogger(), WandbLogger(), MLFlowLogger()
    fitted(board, table, artifact)
    texts = [call for call in board.of("add_text") if call[1] == "automations"]
    assert texts[0][2].startswith(f"step {texts[0][3]}: AdaptiveGradientClipping changed threshold")
    [(_, details)] = table.of("table")
    assert (details["key"], details["columns"]) == ("automations", ["step", "event"])
    assert details["data"] == [[step, text] for _, _, text, step in texts]
    [(_, run, text, name)] = artifact.of("artifact")
    assert (run, name) == ("run", "automations.md")
    assert text.count("\n") == len(texts)


def test_settings_are_logged_once_beside_those_of_the_module(tmp_path: Path) -> None:
    """Under names of their own; TensorBoard, which has one entry for a run, gets them as text."""

    class Parameters(Regression):
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()

    csv, board, other = CSVLogger(tmp_path), TensorBoardLogger(), MLFlowLogger()
    trainer = make_trainer([AdaptiveGradientClipping(max_threshold=7.0)], max_steps=4, logger=[csv, board, other])
    trainer.fit(Parameters(), train_loader(), val_loader())
    kept = yaml.safe_load((Path(csv.log_dir) / "hparams.yaml").read_text())
    assert kept["width"] == 3
    assert kept["training_automations/AdaptiveGradientClipping/max_threshold"] == 7.0
    ours = [params for _, params in other.of("hyperparameters") if "width" not in params]
    assert len(ours) == 1
    [text] = [call for call in board.of("add_text") if call[1] == "training_automations/AdaptiveGradientClipping"]
    assert "    max_threshold: 7.0" in text[2]
    assert [dict(params) for _, params in board.of("hyperparameters")] == [{"width": 3}]


@LENIENT
def test_a_logger_that_raises_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind of thing is tried once; the run and the other loggers go on."""

    class Broken(WandbLogger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            if any(name.startswith("automation/") for name in metrics):
                raise RuntimeError("no numbers")

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("no settings")

        def log_text(self, **details: Any) -> None:
            raise RuntimeError("no text")

    sound = MLFlowLogger()
    fitted(Broken(), sound)
    assert sound.of("metrics")
    for error in ("no numbers", "no settings", "no text"):
        assert sum(error in record.getMessage() for record in caplog.records) == 1


class Remembers(Callback):
    """Keeps what a progress bar shows after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *args)
        self.items.append(self.get_metrics(trainer, pl_module))  # type: ignore[attr-defined]


class Shown(Remembers, TQDMProgressBar):
    """Lightning's plain bar."""


class RichShown(Remembers, RichProgressBar):
    """The same for rich."""


@pytest.mark.parametrize("kind", [Shown, RichShown])
def test_the_progress_bar_shows_values_on_request(kind: type[Shown | RichShown]) -> None:
    """As often as the trainer logs; without a logger too. Afterwards the bar is as it was."""
    bar = kind()
    fitted(callbacks=[bar], bar=True, progress_bar=True)
    assert {"clip", "skipped"} <= set(bar.items[-1])
    assert "clip" not in bar.items[0]
    assert "get_metrics" not in vars(bar)


def test_the_progress_bar_is_left_alone_unless_asked() -> None:
    """Its room is the module's."""
    bar = Shown()
    fitted(callbacks=[bar], bar=True)
    assert all("clip" not in items for items in bar.items)


def test_a_bar_with_a_method_of_its_own_is_left_to_its_owner() -> None:
    """And a run without a bar has nothing to show; an unknown automation shows all that it logs."""
    bar = Shown()
    bar.get_metrics = lambda trainer, pl_module: {"mine": 1}  # type: ignore[method-assign]
    values = ProgressBarValues(SimpleNamespace(progress_bar_callback=bar))  # type: ignore[arg-type]
    values.show("own", {"level": 2.0, "unknown": float("nan")})
    assert bar.get_metrics(None, None) == {"mine": 1}  # type: ignore[arg-type]
    values.detach()
    assert "get_metrics" in vars(bar)
    usual = type("Bar", (), {"get_metrics": lambda self, trainer, pl_module: {"loss": 1}})()
    values = ProgressBarValues(SimpleNamespace(progress_bar_callback=usual))  # type: ignore[arg-type]
    values.show("own", {"level": 2.0, "unknown": float("nan")})
    assert usual.get_metrics(None, None) == {"loss": 1, "level": 2.0}
    ProgressBarValues(SimpleNamespace(progress_bar_callback=None)).show("own", {})  # type: ignore[arg-type]


def test_a_fit_ends_with_its_report(tmp_path: Path) -> None:
    """From start to end: the page has the curves, the scheduled rate and every adjustment of the run."""
    trainer = make_trainer(
        [
            AdaptiveGradientClipping(monitoring_frequency=4, gradient_history_size=8, report=True),
            IntelligentLearningRateScheduler(monitor_metric="val/loss", report=True),
        ],
        max_steps=48,
        logger=CSVLogger(tmp_path),
        log_every_n_steps=4,
    )
    trainer.fit(Regression(), train_loader(), val_loader())
    text = (Path(trainer.log_dir) / "report.html").read_text(encoding="utf-8")
    for key in ("loss", "learning_rate", "gradient_norm", "clipped"):
        assert f'data-chart="chart-{key}"' in text
    assert '"scheduled"' in text
    assert "planned for 48 steps" in text
    adjustments = [item for callback in trainer.callbacks for item in getattr(callback, "adjustments", ())]
    assert adjustments
    assert text.count("<tr>") == len(adjustments) + 1


def test_the_report_goes_where_the_setting_says(tmp_path: Path) -> None:
    """With a journal elsewhere, the logged numbers are still found."""
    page = tmp_path / "page.html"
    journal = str(tmp_path / "story.jsonl")
    fitted(CSVLogger(tmp_path / "logs"), report=str(page), journal=journal)
    assert "chart-gradient_norm" in page.read_text(encoding="utf-8")


def test_a_report_without_a_journal_is_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No logger, no journal, no report."""
    with caplog.at_level(logging.WARNING):
        fitted(report=True)
    assert "No report is written: the run has no journal" in caplog.text
    assert list(tmp_path.rglob("report.html")) == []


@LENIENT
def test_a_report_that_fails_does_not_hurt_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why."""
    fitted(CSVLogger(tmp_path), report=str(tmp_path))
    assert "The report: ReportError" in caplog.text


def test_a_report_without_its_packages_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the end of a long run; the message names the extra."""
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    monkeypatch.setattr(final_report, "missing_packages", errors.missing_packages)
    with pytest.raises(ConfigError, match=r"lightning-automations\[report\]"):
        fitted(report=True)


def test_a_report_of_a_run_without_a_journal_is_a_contradiction() -> None:
    """Both are written in one place, and one of them is wrong."""
    with pytest.raises(ConfigError, match="expected false, for journal is false too"):
        AdaptiveGradientClipping(journal=False, report=True)
