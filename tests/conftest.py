"""What holds for every test: errors are let through, one thread, a folder of its own, and no silent skip."""

import os

# Set before torch is imported. The suite is made of small runs in several processes: one thread each is the fastest.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# An error inside an automation would retire it and training would go on: a test has to see it.
os.environ["LIGHTNING_AUTOMATIONS_ON_ERROR"] = "raise"
# Lightning's command line calls what jsonargparse has deprecated.
os.environ["JSONARGPARSE_DEPRECATION_WARNINGS"] = "off"

from collections.abc import Generator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from packaging.version import Version

from lightning_automations.config.names import REGISTERED

# A shared machine can be slow for a moment, which is no failure. CI draws the same examples every time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Tests that may be skipped, by node id, each with its reason in a comment. Besides these, a test is skipped where its
# mark needs_lightning asks for a newer Lightning (tests/requirements.py). Any other skip fails the run.
ALLOWED_SKIPS: frozenset[str] = frozenset()
# Whole runs, which repeat the lines that smaller tests cover. Tracing doubles their time and so is paused in them: what
# the bars of coverage ask for is met by the others.
NOT_TRACED = ("test_contracts.py", "modes", "benchmarks")
# Asked once: a test may replace what the question reads files with.
INSTALLED_LIGHTNING = Version(version("lightning"))


def pytest_configure(config: pytest.Config) -> None:
    """The marks of this suite."""
    config.addinivalue_line("markers", "needs_lightning(version, why): skipped under an older Lightning, which errs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what the installed Lightning is too old for, and trace what is to be covered."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.relative_to(folder).parts[0] in NOT_TRACED:
            item.add_marker("no_cover")
        for reason in _unmet_needs(item):
            item.add_marker(pytest.mark.skip(reason=reason))


def _unmet_needs(item: pytest.Item) -> list[str]:
    needs = [mark.args for mark in item.iter_markers("needs_lightning")]
    return [f"needs Lightning {least}: {why}" for least, why in needs if Version(least) > INSTALLED_LIGHTNING]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers write below the current folder: each test gets one of its own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _registers_alone() -> Generator[None, None, None]:
    """What a test registers, another one does not know; nor what a module registers when pytest collects it."""
    before = dict(REGISTERED)
    REGISTERED.clear()
    yield
    REGISTERED.clear()
    REGISTERED.update(before)


def _fail_if_skipped(report: Any, allowed_reasons: Sequence[str] = ()) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or report.nodeid in ALLOWED_SKIPS:
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if reason.removeprefix("Skipped: ") not in allowed_reasons:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} is skipped and not in ALLOWED_SKIPS of tests/conftest.py. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that is skipped fails, unless the installed Lightning is older than the test's own mark asks for."""
    report = yield
    _fail_if_skipped(report, _unmet_needs(item))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that is skipped as a whole, by `importorskip` for instance, fails."""
    report = yield
    _fail_if_skipped(report)
    return report
