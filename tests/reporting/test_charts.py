"""What is drawn and said of a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lightning_automations.core.recorded import WOULD_RUN_IN_PIECES
from lightning_automations.factory import _CALLBACKS
from lightning_automations.reporting.chart import Kind, Line, spans_decades, thinned
from lightning_automations.reporting.charts import METRICS_NAMES, charts_of
from lightning_automations.reporting.figures import figure_of
from lightning_automations.reporting.pictures import save_pictures
from lightning_automations.reporting.reading import read_run
from lightning_automations.reporting.record import RunRecord, Series
from lightning_automations.reporting.verdict import verdict_of
from tests.reporting.runs import BATCH, CLIPPING, RATE, STOPPING, change, entry, start, write_journal, write_metrics


@pytest.fixture
def eventful(tmp_path: Path) -> RunRecord:
    """A run in which everything happens, resumed once."""
    outlier = {"norm": 90.0, "threshold": 1.0, "left": 1.0, "dominant": None}
    write_journal(
        tmp_path,
        start(monitor_metric=None),
        start(BATCH, target_vram_usage=0.85, safety_margin=0.05),
        start(CLIPPING),
        start(STOPPING, monitor_metric="val/psnr", patience=30, max_no_improvement=40, min_iterations=10, min_epochs=0),
        change(step=10, reason="divergence"),
        change(BATCH, step=12, reason="out_of_memory", parameter="micro_batch_size", old=8, new=4),
        change(CLIPPING, step=20, reason="gradient_level", parameter="threshold"),
        entry("outlier", CLIPPING, step=21, **outlier),
        start(step=20, run="b"),
        change(step=25, reason="plateau", run="b"),
        change(STOPPING, step=30, reason="plateau", run="b", parameter="should_stop", old=False, new=True),
        entry("retired", CLIPPING, step=30, run="b", why="enough", fallback={}),
        entry(
            "end", STOPPING, step=30, run="b", adjustments=1, retired=False, summary="stopped at step 30, 70 % saved"
        ),
    )
    logged = {
        "train__loss": [3.0, math.nan, 1.0],
        "val__loss": [None, 2.0, 1.5],
        "val__psnr": [None, 30.0, 31.0],
        "lr-Adam": [0.1, 0.1, 0.1],
        f"automation__{METRICS_NAMES[RATE]}__learning_rate": [0.1, 0.05, 0.05],
        f"automation__{METRICS_NAMES[RATE]}__scheduled_learning_rate": [0.1, 0.1, 0.1],
        f"automation__{METRICS_NAMES[RATE]}__smoothed_loss": [None, 2.0, 1.0],
        f"automation__{METRICS_NAMES[CLIPPING]}__norm": [1.0, 100.0, 2.0],
        f"automation__{METRICS_NAMES[CLIPPING]}__threshold": [1.0, 1.0, 0.5],
        f"automation__{METRICS_NAMES[CLIPPING]}__clipped_share": [0.0, 0.5, 0.1],
        f"automation__{METRICS_NAMES[CLIPPING]}__skipped_steps": [0, 2, 2],
        f"automation__{METRICS_NAMES[BATCH]}__batch_size": [8, 8, 8],
        f"automation__{METRICS_NAMES[BATCH]}__micro_batch_size": [8, 4, 4],
        f"automation__{METRICS_NAMES[BATCH]}__memory_share": [None, 0.9, 0.8],
        f"automation__{METRICS_NAMES[STOPPING]}__wait_steps": [0, 10, 20],
    }
    write_metrics(tmp_path, **logged)
    return read_run(tmp_path)


def test_every_adjustment_stands_on_the_curve_that_it_acted_on(eventful: RunRecord) -> None:
    """Rates on loss and rate, thresholds on the threshold, sizes on batch and memory, the stop on the metric."""
    charts, left_out = charts_of(eventful)
    marks = {chart.key: [(mark.step, mark.value, mark.kind) for mark in chart.marks] for chart in charts}
    assert left_out == []
    assert marks["learning_rate"] == [(10, 0.1, Kind.RESCUE), (25, 0.05, Kind.ADJUSTMENT)]
    assert [mark[0] for mark in marks["loss"]] == [10, 12, 25]
    assert marks["metric_1"] == [(25, 30.0, Kind.ADJUSTMENT), (30, 31.0, Kind.STOP)]
    assert marks["gradient_norm"] == [
        (20, 1.0, Kind.ADJUSTMENT),
        (21, 90.0, Kind.OUTLIER),
        (20, 1.0, Kind.RESCUE),
    ]
    assert marks["batch_size"] == [(12, 8.0, Kind.RESCUE)]
    assert marks["memory"] == [(12, 0.9, Kind.RESCUE)]
    assert marks["stopping"] == [(30, 20.0, Kind.STOP)]


def test_charts_show_targets_limits_and_resumptions(eventful: RunRecord) -> None:
    """The band of the memory, the patience, and where the run was resumed."""
    charts = {chart.key: chart for chart in charts_of(eventful)[0]}
    assert [(band.low, band.high) for band in charts["memory"].bands] == [(pytest.approx(0.8), 0.85)]
    assert [level.value for level in charts["stopping"].levels] == [30.0, 40.0]
    assert "min_iterations 10" in charts["stopping"].note
    assert {chart.sessions for chart in charts.values()} == {(20,)}
    assert [line.name for line in charts["loss"].lines if line.quiet] == ["train/loss"]
    assert "lr-Adam" not in {line.name for chart in charts.values() for line in chart.lines}


def test_the_verdict_tells_trouble_savings_and_rest(eventful: RunRecord) -> None:
    """In words that the journal bears out."""
    verdict = verdict_of(eventful)
    assert verdict.headline == (
        "5 adjustments by 4 automations in 30 steps, 2 fits, 3 kinds of trouble met, stopped early."
    )
    assert verdict.rescued == (
        "IntelligentLearningRateScheduler changed factor at step 10: the training loss rises beyond its noise.",
        "DynamicBatchSizeOptimizer changed micro_batch_size at step 12: the batch did not fit into memory.",
        "AdaptiveGradientClipping kept 2 steps with non-finite gradients from the weights.",
    )
    assert verdict.saved == (f"{STOPPING} stopped at step 30, 70 % saved.",)
    assert len(verdict.adjusted) == 2
    assert verdict.left_alone == ("AdaptiveGradientClipping retired at step 30: enough.",)


def test_a_trial_that_was_taken_back_is_no_rescue(tmp_path: Path) -> None:
    """A lower rate at the start counts only where it was kept."""
    tried = [start(), change(step=5, reason="start_not_falling")]
    write_journal(tmp_path, *tried)
    assert len(verdict_of(read_run(tmp_path)).rescued) == 1
    write_journal(tmp_path, *tried, change(step=9, reason="no_better_rate"))
    verdict = verdict_of(read_run(tmp_path))
    assert (verdict.rescued, verdict.adjusted) == ((), ())
    assert "(steps 5 and 9); the given one was kept" in verdict.left_alone[0]


def test_a_stop_at_the_last_step_is_not_early(tmp_path: Path) -> None:
    """It saved nothing."""
    write_journal(tmp_path, start(STOPPING), change(STOPPING, step=100, reason="plateau", parameter="should_stop"))
    assert verdict_of(read_run(tmp_path)).headline.endswith("in 100 steps, no trouble met, not stopped early.")


def test_a_dry_run_is_told_as_one(tmp_path: Path) -> None:
    """Nothing was changed, and nothing reads as if it had been."""
    write_journal(tmp_path, start(dry_run=True), change(step=5, reason="divergence", applied=False))
    verdict = verdict_of(read_run(tmp_path))
    assert verdict.headline.startswith("Dry run, nothing was changed: ")
    assert "would have changed factor" in verdict.rescued[0]


def test_a_run_that_was_killed_after_its_stop_is_told_by_the_adjustment(tmp_path: Path) -> None:
    """There are no last words then."""
    write_journal(tmp_path, start(STOPPING), change(STOPPING, step=5, reason="plateau", parameter="should_stop"))
    [saved] = verdict_of(read_run(tmp_path)).saved
    assert saved == f"{STOPPING} stopped the run at step 5: no improvement for the length of the patience."


def test_a_run_without_events_changed_nothing(tmp_path: Path) -> None:
    """Its last words are shown."""
    end = entry("end", step=100, adjustments=0, retired=False, summary="factor 1")
    write_journal(tmp_path, start(), end)
    run = read_run(tmp_path)
    assert verdict_of(run).headline == "No change in 100 steps, no trouble met, not stopped early."
    assert verdict_of(run).left_alone == (f"{RATE} changed nothing (factor 1).",)
    assert charts_of(run) == (
        [],
        ["loss", "metrics besides the loss", "learning rate", "gradient norm", "batch size", "memory", "stopping"],
    )


def test_parameters_that_change_together_share_a_sentence(tmp_path: Path) -> None:
    """The weights of a loss do at every decision."""
    both = [
        change("DynamicLossScheduling", step=step, reason="terms_out_of_balance", parameter=f"loss_weights.{name}")
        for step in (5, 9)
        for name in ("l1", "ssim")
    ]
    write_journal(tmp_path, start("DynamicLossScheduling"), *both)
    (told,) = verdict_of(read_run(tmp_path)).adjusted
    assert told.startswith(
        "DynamicLossScheduling changed loss_weights.l1 and loss_weights.ssim 2 times, at steps 5, 9: "
    )


def test_a_run_that_broke_off_is_told(tmp_path: Path) -> None:
    """By an interrupt, an error, or a limit of the trainer; a batch that grew has another plan."""
    end = entry("end", step=60, adjustments=0, retired=False, summary="factor 1")
    write_journal(tmp_path, start(), end)
    ended = "ended before the 100 steps that were planned."
    assert verdict_of(read_run(tmp_path)).headline == f"No change in 60 steps, no trouble met, {ended}"
    grown = change(BATCH, step=5, reason="memory_below_target", parameter="batch_size", old=4, new=8)
    write_journal(tmp_path, start(), grown, end)
    assert verdict_of(read_run(tmp_path)).headline.endswith("not stopped early.")


def test_a_dry_run_is_told_as_what_it_would_have_done(tmp_path: Path) -> None:
    """It was not stopped, and what it let pass counts as trouble."""
    passed = entry("note", BATCH, step=3, message=f"{WOULD_RUN_IN_PIECES} CUDA out of memory")
    stop = change(STOPPING, step=5, reason="plateau", parameter="should_stop", applied=False)
    end = entry("end", step=100, adjustments=1, retired=False, summary="")
    write_journal(tmp_path, start(BATCH, dry_run=True), passed, stop, end)
    verdict = verdict_of(read_run(tmp_path))
    assert verdict.headline.endswith("in 100 steps, 1 kind of trouble met, would have been stopped early.")
    assert verdict.rescued == (f"{BATCH} would have run a batch again in pieces at step 3: CUDA out of memory",)


def test_levels_of_one_value_share_their_label(tmp_path: Path) -> None:
    """They would be printed on top of each other."""
    write_journal(tmp_path, start(STOPPING, patience=30, max_no_improvement=30))
    write_metrics(tmp_path, automation__early_stopping__wait_steps=[0.0, 10.0])
    (chart,) = [chart for chart in charts_of(read_run(tmp_path))[0] if chart.key == "stopping"]
    assert [note["text"] for note in figure_of(chart)["layout"]["annotations"]] == ["patience, max_no_improvement"]


def test_an_axis_of_shares_begins_at_zero(tmp_path: Path) -> None:
    """Where nothing was clipped it would run from -1 to 1."""
    write_journal(tmp_path, start(CLIPPING))
    write_metrics(tmp_path, automation__adaptive_gradient_clipping__clipped_share=[0.0, 0.0])
    (chart,) = [chart for chart in charts_of(read_run(tmp_path))[0] if chart.key == "clipped"]
    assert figure_of(chart)["layout"]["yaxis"]["rangemode"] == "tozero"


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("auto", ", and the learning rate went with it by the square root"),
        ("linear", ", and the learning rate went with it in proportion"),
        ("none", ""),
    ],
)
def test_a_batch_that_grew_accounts_for_the_rate(rule: str, told: str, tmp_path: Path) -> None:
    """Else the curve of the rate has a step that nobody made."""
    grown = change(BATCH, step=5, reason="memory_below_target", parameter="batch_size", old=4, new=8)
    write_journal(tmp_path, start(BATCH, lr_scaling=rule), grown)
    [told_of_it] = verdict_of(read_run(tmp_path)).adjusted
    assert told_of_it == f"{BATCH} changed batch_size at step 5: memory use is below the target band{told}."


def test_many_changes_are_told_in_a_range(tmp_path: Path) -> None:
    """No sentence of a hundred numbers."""
    write_journal(tmp_path, start(), *(change(step=step, reason="plateau") for step in range(1, 21)))
    assert "20 times between steps 1 and 20" in verdict_of(read_run(tmp_path)).adjusted[0]


def test_each_optimizer_has_its_own_norm(tmp_path: Path) -> None:
    """Their values carry its number."""
    write_journal(tmp_path, start(CLIPPING))
    name = f"automation__{METRICS_NAMES[CLIPPING]}__"
    write_metrics(tmp_path, **{f"{name}norm_0": [1.0], f"{name}norm_1": [2.0], f"{name}norm_quartile_1": [9.0]})
    [chart] = charts_of(read_run(tmp_path))[0]
    assert [line.name[-11:] for line in chart.lines] == ["optimizer 0", "optimizer 1"]


def test_names_among_logged_values_are_those_of_the_callbacks() -> None:
    """The report reads what the callbacks write."""
    assert {
        callback.settings_class.automation: callback.metrics_name for callback in _CALLBACKS.values()
    } == METRICS_NAMES


def test_a_long_curve_is_thinned_and_keeps_its_peaks() -> None:
    """Lowest, highest, first, last and a gap of each stretch."""
    values = [0.0] * 100_000
    values[777], values[55_555], values[90_000] = 9.0, -9.0, math.nan
    kept = thinned(Series(tuple(range(100_000)), tuple(values)), most=2000)
    assert len(kept.steps) <= 2500
    assert {777, 55_555, 90_000, 0, 99_999} <= set(kept.steps)
    assert list(kept.steps) == sorted(set(kept.steps))
    nothing = Series(tuple(range(100)), (math.nan,) * 100)
    assert all(math.isnan(value) for value in thinned(nothing, most=20).values)


def test_a_logarithmic_axis_needs_values_above_zero() -> None:
    """And many decades between them."""
    assert spans_decades([Line("a", Series((1, 2), (1.0, 100.0)))])
    assert not spans_decades([Line("a", Series((1, 2), (0.0, 100.0)))])
    assert not spans_decades([Line("a", Series((1,), (math.nan,)))])


def test_figures_are_json_without_nan_and_with_texts_escaped(eventful: RunRecord) -> None:
    """A NaN is a gap, and a name with markup is a name."""
    import json

    for chart in charts_of(eventful)[0]:
        json.dumps(figure_of(chart), allow_nan=False)
    [loss, *_] = charts_of(eventful)[0]
    assert None in next(trace for trace in figure_of(loss)["data"] if trace["name"] == "train/loss")["y"]


def test_each_chart_is_a_picture(eventful: RunRecord, tmp_path: Path) -> None:
    """One file each, that begins as a PNG does."""
    charts, _ = charts_of(eventful)
    saved = save_pictures(charts, tmp_path / "new" / "folder")
    assert [path.stem for path in saved] == [chart.key for chart in charts]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in saved)


def test_an_automation_of_someone_else_has_its_curves_with_its_changes(tmp_path: Path) -> None:
    """One chart for each value that it logs; a change is marked on the value that it names, and on no other."""
    write_journal(tmp_path, start("CoolDown"), change("CoolDown", step=10, reason="too_warm", parameter="factor"))
    logged = {"automation__cool_down__factor": [1.0, 0.5, 0.5], "automation__cool_down__heat/max": [3.0, 2.0, 1.0]}
    write_metrics(tmp_path, **logged)
    charts, _ = charts_of(read_run(tmp_path))
    assert [(chart.key, chart.title, len(chart.marks)) for chart in charts] == [
        ("automation_cool_down_factor", "CoolDown: factor", 1),
        ("automation_cool_down_heat_max", "CoolDown: heat/max", 0),
    ]
    assert "too warm" in charts[0].marks[0].text
