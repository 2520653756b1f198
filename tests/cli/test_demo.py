"""The demo as a user starts it."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from lightning_automations.cli import demo
from lightning_automations.cli.demo import run_demo
from lightning_automations.cli.demo.model import SuperResolution, UpscalingNetwork, restoration_terms
from lightning_automations.cli.demo.run import FULL, Recipe, example_config, run
from lightning_automations.core.errors import ConfigError
from lightning_automations.factory import build_callbacks

TINY = Recipe(epochs=1, crops_per_epoch=8)


def test_the_fast_demo_shows_all_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with status 0, beats bicubic upsampling, and leaves journal, metrics and picture."""
    output = tmp_path / "results"
    assert run_demo(fast=True, output=output) == 0

    shown = capsys.readouterr().out
    bicubic = _psnr_in_row(shown, "bicubic")
    # Measured: 0.8 dB with and without automations. It says that the network learns, not what automations gain.
    assert _psnr_in_row(shown, "with automations") > bicubic + 0.3
    assert _psnr_in_row(shown, "without automations") > bicubic + 0.3
    assert "Early stopping did not end the run" in shown
    weights = {name: float(weight) for name, weight in re.findall(r"(l1|ssim) ([\d.e-]+) \(given", shown)}
    assert set(weights) == {"l1", "ssim"}
    assert weights["ssim"] < 0.1  # its given weight says a tenth of the L1 term's share, and it has a half

    journal = [
        json.loads(line) for line in (output / "with_automations" / "automations.jsonl").read_text().splitlines()
    ]
    assert {"AdaptiveGradientClipping", "DynamicLossScheduling"} <= {entry["automation"] for entry in journal}
    for name in ("with_automations", "without_automations"):
        assert "val/psnr" in (output / name / "metrics.csv").read_text().splitlines()[0]
    with Image.open(output / "comparison.png") as picture:
        assert picture.size == (4 * 240 + 3 * 6, 240 + 44)


def _psnr_in_row(shown: str, name: str) -> float:
    (value,) = re.findall(rf"^ +{name} +(\d+\.\d+) dB", shown, flags=re.MULTILINE)
    return float(value)


def test_the_example_names_all_automations() -> None:
    """The file that the demo loads when no other is given builds one callback each."""
    names = [type(callback).__name__ for callback in build_callbacks(example_config())]
    assert names == [
        "IntelligentLearningRateScheduler",
        "DynamicBatchSizeOptimizer",
        "AdaptiveGradientClipping",
        "IntelligentEarlyStopping",
        "DynamicLossScheduling",
    ]


def test_the_example_is_in_the_scale_of_the_run() -> None:
    """Every automation can act before the run is over: no count of steps is beyond its end."""
    steps_if_the_batch_doubles = FULL.samples // (2 * FULL.batch_size)
    settings = [callback.settings for callback in build_callbacks(example_config())]
    rate, batch, clipping, stopper, losses = settings
    assert 3 * rate.plateau_patience < steps_if_the_batch_doubles
    assert 3 * batch.adjustment_frequency < steps_if_the_batch_doubles
    assert clipping.monitoring_frequency < 50
    assert stopper.min_iterations + stopper.patience < steps_if_the_batch_doubles
    assert stopper.min_epochs < FULL.epochs
    assert losses.baseline_iterations + 3 * losses.adaptation_frequency < steps_if_the_batch_doubles


def test_a_wrong_file_is_explained_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, the problem on stderr, nothing on stdout, no folder."""
    config = tmp_path / "wrong.yml"
    config.write_text("training_automations:\n  AdaptiveGradientClipping:\n    min_treshold: 1\n")
    output = tmp_path / "results"
    assert run_demo(config=config, output=output) == 2
    shown = capsys.readouterr()
    assert "min_treshold" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not output.exists()


def test_a_metric_that_is_not_logged_is_an_error(tmp_path: Path) -> None:
    """The run ends after its first validation and says what is logged."""
    config = tmp_path / "metric.yml"
    config.write_text("training_automations:\n  IntelligentEarlyStopping:\n    monitor_metric: val/vmaf\n")
    with pytest.raises(ConfigError, match="val/psnr"):
        run(config, TINY, tmp_path / "results")


def test_without_automations_both_runs_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Same weights, same crops: with everything turned off the two runs end with the same figures."""
    config = tmp_path / "off.yml"
    config.write_text("training_automations:\n  enabled: false\n")
    run(config, TINY, tmp_path / "results")
    shown = capsys.readouterr().out
    assert "The automations changed nothing." in shown
    assert "+0.00 dB against the same run without them" in shown


def test_results_are_never_mixed_with_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that holds something is refused."""
    (tmp_path / "mine.txt").touch()
    assert run_demo(fast=True, output=tmp_path) == 2
    assert capsys.readouterr().err == f"{tmp_path}: expected a new or empty folder for the results of the demo.\n"


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is missing is said at once, by the names that pip knows."""
    missing = {"skimage", "rich"}
    monkeypatch.setattr(
        demo, "find_spec", lambda module: None if module in missing else importlib.util.find_spec(module)
    )
    assert run_demo() == 2
    expected = 'The demo needs scikit-image, rich: pip install "lightning_automations[demo]"\n'
    assert capsys.readouterr().err == expected


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    """A weight that is changed holds from the next step on, and the terms themselves do not depend on it."""
    torch.manual_seed(0)
    batch = torch.rand(2, 3, 12, 12), torch.rand(2, 3, 24, 24)
    module = SuperResolution(UpscalingNetwork(channels=4, blocks=1), learning_rate=1e-3)
    module.log = lambda *_, **__: None
    before = module.training_step(batch, 0)
    module.loss_weights["ssim"] *= 10
    after = module.training_step(batch, 1)
    assert before["loss_terms"] == after["loss_terms"]
    assert set(before["loss_terms"]) == set(module.loss_weights)
    weighted = before["loss_terms"]["l1"] + 0.1 * before["loss_terms"]["ssim"]
    assert before["loss"].item() == pytest.approx(weighted.item())
    assert (after["loss"] - before["loss"]).item() == pytest.approx(0.9 * before["loss_terms"]["ssim"].item())
    assert not any(term.requires_grad for term in before["loss_terms"].values())


def test_identical_images_cost_nothing_and_each_term_moves_the_network() -> None:
    """Both terms are 0 for a perfect result, above 0 with a gradient for any other."""
    torch.manual_seed(0)
    high = torch.rand(2, 3, 24, 24)
    assert all(term.item() == pytest.approx(0, abs=1e-5) for term in restoration_terms(high, high).values())
    for name in ("l1", "ssim"):
        blurred = (0.5 * high + 0.25).requires_grad_()
        term = restoration_terms(blurred, high)[name]
        term.backward()
        assert term > 0
        assert blurred.grad is not None
        assert blurred.grad.abs().sum() > 0
