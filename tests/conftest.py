"""What holds for every test: errors are let through, one thread, a folder of its own, and no silent skip."""

import os

# Set before torch is imported. The suite is made of small runs in several processes: one thread each is the fastest.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# An error inside an automation would retire it and training would go on: a test has to see it.
os.environ["LIGHTNING_AUTOMATIONS_ON_ERROR"] = "raise"

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# A shared machine can be slow for a moment, which is no failure. CI draws the same examples every time.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Tests that may be skipped, by node id, each with its reason in a comment. Any other skip fails the run.
ALLOWED_SKIPS: frozenset[str] = frozenset()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers write below the current folder: each test gets one of its own."""
    monkeypatch.chdir(tmp_path)


def _fail_if_skipped(report: Any) -> None:
    expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not expected_failure and report.nodeid not in ALLOWED_SKIPS:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} is skipped and not in ALLOWED_SKIPS of tests/conftest.py. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that is skipped fails."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file that is skipped as a whole, by `importorskip` for instance, fails."""
    report = yield
    _fail_if_skipped(report)
    return report
