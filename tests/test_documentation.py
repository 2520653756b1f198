"""What the documents say is run: the examples in docstrings, and the code and the YAML block of README.md."""

import doctest
import pkgutil
import re
from functools import partial
from importlib import import_module
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

import lightning_automations

README = (Path(__file__).parent.parent / "README.md").read_text()
MODULES = [
    module.name
    for module in pkgutil.walk_packages(lightning_automations.__path__, "lightning_automations.")
    if not module.name.endswith("__main__")
]


class _ModelWithPsnr(BoringModel):
    """Logs the metric that the YAML block of the README names."""

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val/psnr", -self.step(batch))


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    """An example that a user reads in the reference gives what it shows."""
    assert doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_the_readme_trains_with_its_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three lines of the README build the four callbacks from the YAML block below them, and train."""
    [settings] = _blocks("yaml")
    (tmp_path / "train.yml").write_text(settings)
    quick = partial(lightning.Trainer, fast_dev_run=True, accelerator="cpu", enable_progress_bar=False)
    monkeypatch.setattr(lightning, "Trainer", quick)
    names = {"model": _ModelWithPsnr(), "data": None}
    exec(_blocks("python")[0], names)
    ours = [type(callback).__name__ for callback in names["trainer"].callbacks]
    assert {name for name in ours if name in lightning_automations.__all__} == {
        "AdaptiveGradientClipping",
        "DynamicBatchSizeOptimizer",
        "IntelligentEarlyStopping",
        "IntelligentLearningRateScheduler",
    }
    assert names["trainer"].state.finished


def test_callbacks_built_by_hand_take_the_settings_of_the_readme() -> None:
    """The second Python block of the README is valid as it stands."""
    names: dict[str, list[object]] = {}
    exec(_blocks("python")[1], names)
    assert [type(callback).__name__ for callback in names["callbacks"]] == [
        "AdaptiveGradientClipping",
        "IntelligentEarlyStopping",
    ]
