"""The package as a user meets it: what importing it costs, which names it has, what an installed wheel brings."""

import re
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import lightning_automations

ROOT = Path(__file__).parent.parent
HEAVY = ["torch", "torchmetrics", "lightning", "pytorch_lightning", "lightning_fabric", "numpy", "jsonargparse"]


def _loaded_after(statement: str) -> set[str]:
    """Run the statement in a new interpreter and name the heavy modules that it loaded."""
    code = f"import sys\n{statement}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import lightning_automations",
        "import lightning_automations.core",
        "import importlib, pkgutil, lightning_automations.core as core\n"
        "for module in pkgutil.walk_packages(core.__path__, core.__name__ + '.'): importlib.import_module(module.name)",
        "from lightning_automations import Adjustment, ConfigError, __version__",
    ],
    ids=["package", "core", "every module of core", "light names"],
)
def test_importing_the_brains_loads_no_framework(statement: str) -> None:
    """Neither torch nor Lightning is loaded before a callback is asked for."""
    assert _loaded_after(statement) == set()


def test_a_callback_loads_lightning() -> None:
    """The probe of the test above is able to see a framework."""
    assert {"torch", "lightning"} <= _loaded_after("from lightning_automations import IntelligentEarlyStopping")


@pytest.mark.parametrize("name", lightning_automations.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """What `__all__` promises can be imported, under its own name, and shows up in `dir`."""
    assert getattr(lightning_automations, name).__name__ == name
    assert name in dir(lightning_automations)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Loading names late keeps Python's own message for a name that does not exist."""
    with pytest.raises(AttributeError) as caught:
        lightning_automations.NoSuchName  # noqa: B018 - reading it is the test
    assert str(caught.value) == "module 'lightning_automations' has no attribute 'NoSuchName'"


def test_the_version_stands_in_one_place() -> None:
    """The package reports the version of pyproject.toml."""
    declared = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert [lightning_automations.__version__] == declared


def test_the_command_is_installed() -> None:
    """`lightning-automations` leads to a function that exists."""
    [command] = entry_points(group="console_scripts", name="lightning-automations")
    assert callable(command.load())


def test_the_wheel_brings_types_and_examples(tmp_path: Path) -> None:
    """An installed wheel has the type marker, the page of the report and the example configurations, and no tests."""
    from hatchling.builders.wheel import WheelBuilder

    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"lightning_automations/py.typed", "lightning_automations/reporting/templates/page.html"} <= names
    for example in (ROOT / "example_configs").glob("*.yml"):
        assert f"lightning_automations/example_configs/{example.name}" in names
    assert "lightning_automations/example_configs/super_resolution.yml" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
