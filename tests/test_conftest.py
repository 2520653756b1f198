"""The rules that tests/conftest.py lays on every test."""

import os
from pathlib import Path

import pytest
import torch

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\ndef test_a():\n    pytest.importorskip('no_such_module')",
        "import pytest\npytest.importorskip('no_such_module')\ndef test_a(): pass",
        "import pytest\n@pytest.mark.skipif(True, reason='why')\ndef test_a(): pass",
        "import pytest\n@pytest.mark.skipif(True, reason='needs Lightning 99: why')\ndef test_a(): pass",
        "import pytest\n@pytest.mark.needs_lightning('2.4', 'why')\n@pytest.mark.skipif(True, reason='why')\n"
        "def test_a(): pass",
    ],
    ids=["in a test", "in a file", "by a mark", "with the words of a need", "with a need that is met"],
)
def test_an_unexpected_skip_fails_the_run(pytester: pytest.Pytester, source: str) -> None:
    """A skip that is not listed is a failure, wherever it comes from."""
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(source)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret != 0
    assert "not in ALLOWED_SKIPS" in result.stdout.str()


def test_a_test_is_skipped_only_where_lightning_is_older_than_it_needs(pytester: pytest.Pytester) -> None:
    """The mark names the version from which on the test runs."""
    pytester.makeconftest(CONFTEST.read_text())
    marks = {name: f"@pytest.mark.needs_lightning('{least}', 'why')" for name, least in (("a", "2.4"), ("b", "99"))}
    pytester.makepyfile(
        "import pytest\n" + "\n".join(f"{mark}\ndef test_{name}(): pass" for name, mark in marks.items())
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    assert "needs Lightning 99: why" in result.stdout.str()


def test_an_expected_failure_is_no_skip(pytester: pytest.Pytester) -> None:
    """`xfail` is reported by pytest as skipped, and stays what it is."""
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_a():\n    assert False")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(xfailed=1)


def test_errors_of_automations_are_let_through() -> None:
    """The fallback that keeps a user's run alive must not hide an error from a test."""
    assert os.environ["LIGHTNING_AUTOMATIONS_ON_ERROR"] == "raise"


def test_torch_uses_the_threads_it_was_given() -> None:
    """Workers that share the cores must not each take all of them."""
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])


def test_a_test_works_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """Logs and checkpoints of a Trainer never land in the repository."""
    assert Path.cwd() == tmp_path
