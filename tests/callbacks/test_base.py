"""The frame that all automations share, seen through one small automation."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import lightning.pytorch as pl
import pytest
import torch
from annotated_types import Ge
from lightning.pytorch.loggers import CSVLogger

from lightning_automations.callbacks.base import AutomationCallback
from lightning_automations.callbacks.ranks import Across
from lightning_automations.core.decision import Adjustment, Reason
from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.events import Event, EventKind
from lightning_automations.core.settings import AutomationSettings
from tests.callbacks.helpers import (
    Regression,
    SaveAt,
    journal_entries,
    make_trainer,
    train_loader,
    val_loader,
    weights,
)


@dataclass(frozen=True, kw_only=True)
class CountingSettings(AutomationSettings):
    """One setting of its own, in steps."""

    automation: ClassVar[str] = "Counting"
    shares_of_steps: ClassVar[Mapping[str, float]] = {"patience": 0.25}

    patience: Annotated[int, Ge(1)] = 1000


class CountingBrain:
    """Wants a change at every decision."""

    def __init__(self) -> None:
        self.level = 0

    def observe(self, step: int, epoch: int, loss: float) -> Adjustment:
        self.level += 1
        return Adjustment(
            step=step,
            epoch=epoch,
            automation="Counting",
            parameter="level",
            old=self.level - 1,
            new=self.level,
            reason=Reason.PLATEAU,
            evidence={"loss": loss},
        )

    def state_dict(self) -> dict[str, Any]:
        return {"level": self.level}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.level = state["level"]


class Counting(AutomationCallback):
    """Calls are kept in order, so that tests can see them."""

    settings_class = CountingSettings
    metrics_name = "counting"
    across: ClassVar[Mapping[str, Across]] = {"loss": Across.MEAN}
    period = 4

    def make_brain(self, settings: AutomationSettings) -> CountingBrain:
        self.calls: list[Any] = getattr(self, "calls", [])
        return CountingBrain()

    def begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.calls.append("begin")

    def after_batch(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any) -> None:
        self.calls.append("batch")

    def period_steps(self) -> int:
        return self.period

    def read(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, float]:
        return {"loss": 0.5}

    def decide(self, trainer: pl.Trainer, pl_module: pl.LightningModule, readings: Mapping[str, float]) -> None:
        adjustment = self.brain.observe(trainer.global_step, trainer.current_epoch, readings["loss"])
        self.adjust(trainer, adjustment, lambda: self.calls.append("applied"))

    def apply_fallback(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.calls.append("fallback")

    def hear(self, trainer: pl.Trainer, event: Event) -> None:
        self.calls.append(event)

    def end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.calls.append("end")

    def values(self) -> dict[str, float]:
        return {"level": float(self.brain.level)}


def fit(
    *callbacks: Any, module: pl.LightningModule | None = None, ckpt: str | None = None, **options: Any
) -> pl.Trainer:
    """One epoch of 16 batches."""
    trainer = make_trainer(callbacks, **{"max_epochs": 1, **options})
    trainer.fit(module or Regression(), train_loader(), val_loader(), ckpt_path=ckpt)
    return trainer


def steps_of(automation: AutomationCallback) -> list[int]:
    """The optimizer steps at which something was changed."""
    return [adjustment.step for adjustment in automation.adjustments]


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors retire an automation, as they do for users."""
    monkeypatch.delenv("LIGHTNING_AUTOMATIONS_ON_ERROR")


def test_decisions_come_every_period_of_optimizer_steps() -> None:
    """16 batches with a period of 4 steps are 4 decisions."""
    automation = Counting()
    fit(automation)
    assert steps_of(automation) == [4, 8, 12, 16]


def test_accumulated_batches_are_not_steps() -> None:
    """16 batches accumulated by 2 are 8 steps and 2 decisions."""
    automation = Counting()
    fit(automation, accumulate_grad_batches=2)
    assert steps_of(automation) == [4, 8]
    assert automation.calls.count("batch") == 16


def test_two_optimizers_count_both_their_steps() -> None:
    """With two optimizers a batch is two steps; a period that lies between two batches is not missed."""

    class TwoOptimizers(Regression):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.01), torch.optim.SGD(self.parameters(), lr=0.01)]

    module = TwoOptimizers()
    module.automatic_optimization = False
    automation = Counting()
    automation.period = 5
    fit(automation, module=module, limit_train_batches=8)
    assert steps_of(automation) == [6, 10, 16]


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {"max_epochs": 0}])
def test_quiet_where_nothing_is_trained_for_real(options: dict[str, Any]) -> None:
    """No call reaches the automation under fast_dev_run or where no epoch runs."""
    automation = Counting()
    fit(automation, **options)
    assert automation.calls == []
    assert automation.adjustments == []


def test_quiet_in_sanity_check_and_outside_of_fit() -> None:
    """Only training calls the automation; validate and test leave it as it was."""
    automation = Counting()
    trainer = make_trainer([automation], max_epochs=1)
    module = Regression()
    trainer.validate(module, val_loader(), verbose=False)
    assert automation.calls == []
    trainer.fit(module, train_loader(), val_loader())
    before = automation.state_dict()
    trainer.validate(module, val_loader(), verbose=False)
    assert automation.state_dict() == before
    assert automation.calls[0] == "begin"
    assert automation.calls[-1] == "end"


def test_disabled_does_nothing() -> None:
    """``enabled: false`` on a callback built by hand keeps it out of the run."""
    automation = Counting(enabled=False)
    fit(automation)
    assert automation.calls == []


def test_budget_used_up_retires_to_the_fallback(caplog: pytest.LogCaptureFixture) -> None:
    """After max_adjustments the fallback is applied once, one warning is written, and nothing is read any more."""
    automation = Counting(max_adjustments=2)
    fit(automation)
    assert automation.retired
    assert steps_of(automation) == [4, 8]
    assert automation.calls.count("fallback") == 1
    assert automation.calls.count("batch") == 8
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "Counting retires at step 8: its budget of 2 adjustments is used up (max_adjustments)",
    ]


def test_budget_of_nothing_retires_at_the_start() -> None:
    """``max_adjustments: 0`` applies the fallback before the first batch."""
    automation = Counting(max_adjustments=0)
    fit(automation)
    assert automation.calls == ["begin", "fallback", "end"]


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("place", ["begin", "after_batch", "read", "decide", "values"])
def test_an_error_retires_the_automation_and_training_goes_on(
    place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever method fails, the run ends as without the automation, the traceback is in the log."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("broken on purpose")

    plain, module = Regression(), Regression()
    fit(module=plain)
    automation = Counting()
    monkeypatch.setattr(automation, place, broken)
    trainer = fit(automation, module=module)
    assert trainer.global_step == 16
    assert automation.retired
    assert automation.calls.count("fallback") == 1
    assert all(torch.equal(one, other) for one, other in zip(weights(plain), weights(module), strict=True))
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info[0] for record in errors if record.exc_info] == [ZeroDivisionError]


@pytest.mark.usefixtures("lenient")
def test_a_fallback_that_fails_leaves_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where even the fallback fails everything is taken away at once, and training goes on."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("broken on purpose")

    automation = Counting(max_adjustments=1)
    monkeypatch.setattr(automation, "apply_fallback", broken)
    trainer = fit(automation)
    assert trainer.global_step == 16
    assert automation.retired
    assert automation.calls.count("batch") == 4
    assert automation.calls[-1] == "end"
    assert automation.calls.count("end") == 1


@pytest.mark.usefixtures("lenient")
def test_on_error_raise_lets_the_error_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """``on_error: raise`` is for those who want to know."""

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("broken on purpose")

    automation = Counting(on_error="raise")
    monkeypatch.setattr(automation, "decide", broken)
    with pytest.raises(ZeroDivisionError, match="broken on purpose"):
        fit(automation)


@pytest.mark.usefixtures("lenient")
def test_wrong_configuration_is_never_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ConfigError ends the run even where other errors would retire the automation."""

    def broken(*_: Any) -> None:
        raise ConfigError([Problem(path="Counting.patience", expected="more", got="less")])

    automation = Counting()
    monkeypatch.setattr(automation, "decide", broken)
    with pytest.raises(ConfigError, match=r"Counting\.patience: expected more, got less\."):
        fit(automation)


def test_dry_run_decides_and_changes_nothing(tmp_path: Path) -> None:
    """In a dry run the adjustments are recorded as not applied, and retirement applies no fallback."""
    automation = Counting(dry_run=True, max_adjustments=2, journal=str(tmp_path / "journal.jsonl"))
    fit(automation)
    assert steps_of(automation) == [4, 8]
    assert "applied" not in automation.calls
    assert "fallback" not in automation.calls
    entries = journal_entries(tmp_path / "journal.jsonl")
    assert [entry["applied"] for entry in entries if entry["event"] == "adjustment"] == [False, False]


def test_values_are_recorded_from_the_first_step_on(tmp_path: Path) -> None:
    """callback_metrics hold the value at once, the logger gets it whenever Lightning logs."""
    automation = Counting()
    logger = CSVLogger(tmp_path)
    trainer = fit(automation, logger=logger, log_every_n_steps=2)
    assert trainer.callback_metrics["automation/counting/level"] == 4
    rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("automation/counting/level")
    assert [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]] == [0, 1, 1, 2, 2, 3, 3, 4]


def test_what_is_not_known_yet_is_kept_from_loggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some loggers refuse NaN, and Lightning would end the run with their error."""
    monkeypatch.setattr(Counting, "values", lambda self: {"level": math.nan, "known": 1.0})
    logger = CSVLogger(tmp_path)
    trainer = fit(Counting(), logger=logger, log_every_n_steps=2)
    header = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "automation/counting/known" in header
    assert "automation/counting/level" not in header
    assert math.isnan(trainer.callback_metrics["automation/counting/level"])


@pytest.mark.usefixtures("lenient")
def test_a_logger_that_fails_on_our_values_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor the automation: the logger is spared its values, and that is said once."""

    class Refuses(CSVLogger):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            if any(name.startswith("automation/") for name in metrics):
                raise ValueError("names with a slash are refused")
            super().log_metrics(metrics, step)

    automation = Counting()
    trainer = fit(automation, logger=Refuses(tmp_path), log_every_n_steps=2)
    assert trainer.global_step == 16
    assert not automation.retired
    assert automation.adjustments
    told = [record for record in caplog.records if "names with a slash are refused" in record.getMessage()]
    assert len(told) == 1


def test_the_journal_tells_the_story(tmp_path: Path) -> None:
    """Start, every adjustment with its evidence, retirement and end stand in the logger's folder."""
    logger = CSVLogger(tmp_path)
    fit(Counting(max_adjustments=1), logger=logger, log_every_n_steps=1)
    entries = journal_entries(Path(logger.log_dir) / "automations.jsonl")
    assert [entry["event"] for entry in entries] == ["start", "adjustment", "retired", "end"]
    assert len({entry["run"] for entry in entries}) == 1
    assert entries[0]["settings"]["patience"] == 4
    assert entries[0]["settings"]["max_adjustments"] == 1
    adjustment = {name: value for name, value in entries[1].items() if name not in ("time", "run")}
    assert adjustment == {
        "event": "adjustment",
        "automation": "Counting",
        "step": 4,
        "epoch": 0,
        "parameter": "level",
        "old": 0,
        "new": 1,
        "reason": "plateau",
        "evidence": {"loss": 0.5},
        "applied": True,
    }


def test_without_a_logger_there_is_no_journal(tmp_path: Path) -> None:
    """``auto`` follows the logger; False writes nothing even where there is one."""
    fit(Counting())
    fit(Counting(journal=False), logger=CSVLogger(tmp_path), log_every_n_steps=1)
    assert list(tmp_path.rglob("automations.jsonl")) == []


def test_a_journal_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that is a file stops the journal, with one warning for all automations, not the training."""

    class Second(Counting):
        settings_class = type("SecondSettings", (CountingSettings,), {"automation": "Second"})

    (tmp_path / "file").write_text("not a folder")
    journal = str(tmp_path / "file" / "journal.jsonl")
    trainer = fit(Counting(journal=journal), Second(journal=journal))
    assert trainer.global_step == 16
    assert len([record for record in caplog.records if "cannot be written" in record.getMessage()]) == 1


def test_a_resumed_run_decides_like_one_that_was_never_interrupted(tmp_path: Path) -> None:
    """Stopped at step 6, in the middle of a period, and resumed: the same adjustments, budget included."""
    whole = Counting(max_adjustments=3)
    save = SaveAt(6, tmp_path)
    fit(whole, save)
    resumed = Counting(max_adjustments=3)
    fit(resumed, ckpt=save.path)
    assert resumed.adjustments == whole.adjustments
    assert steps_of(resumed) == [4, 8, 12]
    assert resumed.retired
    state = torch.load(save.path, weights_only=True)["callbacks"]["Counting"]
    assert json.loads(json.dumps(state)) == state


def test_a_retired_automation_resumes_retired(tmp_path: Path) -> None:
    """A budget that was used up before the checkpoint stays used up, and the fallback is not applied twice."""
    save = SaveAt(6, tmp_path)
    fit(Counting(max_adjustments=1), save)
    resumed = Counting(max_adjustments=1)
    fit(resumed, ckpt=save.path)
    assert resumed.retired
    assert steps_of(resumed) == [4]
    assert resumed.calls == ["begin", "end"]


def test_a_second_fit_of_the_same_trainer_goes_on() -> None:
    """The same trainer continues the story; a new one starts afresh."""
    automation = Counting()
    trainer = fit(automation)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Regression(), train_loader(), val_loader())
    assert steps_of(automation) == [4, 8, 12, 16, 20, 24, 28, 32]
    fit(automation)
    assert steps_of(automation) == [4, 8, 12, 16]


def test_interrupted_by_hand_the_journal_still_ends(tmp_path: Path) -> None:
    """On KeyboardInterrupt the end is written and the automation cleans up."""

    class Interrupted(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if self.global_step == 5:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    automation = Counting(journal=str(tmp_path / "journal.jsonl"))
    with pytest.raises(SystemExit):
        fit(automation, module=Interrupted())
    assert journal_entries(tmp_path / "journal.jsonl")[-1]["event"] == "end"
    assert automation.calls.count("end") == 1


def test_copied_and_pickled_after_a_fit() -> None:
    """What binds an automation to one run is left behind; what it knows is kept."""
    automation = Counting()
    fit(automation)
    for twin in (copy.deepcopy(automation), pickle.loads(pickle.dumps(automation))):
        assert twin.state_dict() == automation.state_dict()
        assert twin.settings == automation.settings
        fit(twin)
        assert steps_of(twin) == [4, 8, 12, 16]


def test_defaults_are_shortened_to_a_short_run_and_what_is_written_is_not() -> None:
    """A quarter of 16 steps is 4; a written patience holds whatever the run's length."""
    default, written = Counting(), Counting(patience=1000)
    fit(default)
    fit(written)
    assert (default.settings.patience, default.effective_settings.patience) == (1000, 4)
    assert written.effective_settings.patience == 1000


def test_events_reach_the_others_and_not_their_source() -> None:
    """What one automation announces the others hear, until they retire."""

    class Announcing(Counting):
        settings_class = type("AnnouncingSettings", (CountingSettings,), {"automation": "Announcing"})

        def decide(self, trainer: pl.Trainer, pl_module: pl.LightningModule, readings: Mapping[str, float]) -> None:
            event = Event(kind=EventKind.RATE_CHANGED, step=trainer.global_step, ratio=0.5)
            self.session.announce(trainer, event, source=self)

    announcing, listening = Announcing(), Counting(max_adjustments=2)
    fit(announcing, listening)
    assert [call.step for call in listening.calls if isinstance(call, Event)] == [4, 8]
    assert not any(isinstance(call, Event) for call in announcing.calls)


def test_the_session_exists_only_in_training() -> None:
    """Asked outside of a fit it says so."""
    with pytest.raises(RuntimeError, match="outside of training"):
        _ = Counting().session


def test_both_namespaces_take_the_callback() -> None:
    """A Trainer of pytorch_lightning runs our automation like one of lightning."""
    import pytorch_lightning

    class Twin(pytorch_lightning.LightningModule):
        __init__ = Regression.__init__
        loss = Regression.loss
        training_step = Regression.training_step
        validation_step = Regression.validation_step
        configure_optimizers = Regression.configure_optimizers

    automation = Counting()
    trainer = pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[automation],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    assert isinstance(automation, pytorch_lightning.Callback)
    module = Twin.__new__(Twin)
    pytorch_lightning.LightningModule.__init__(module)
    module.layer, module.rate = torch.nn.Linear(4, 1), 0.05
    trainer.fit(module, train_loader(), val_loader())
    assert steps_of(automation) == [4, 8, 12, 16]
