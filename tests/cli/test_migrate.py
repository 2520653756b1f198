"""The command ``migrate``: what it writes, what it leaves alone, what it refuses."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_automations.cli.main import main

TESTS = Path(__file__).parents[1]
PARAGON = (TESTS / "config" / "migration" / "paragon.yml").read_bytes()
SEED = TESTS / "config" / "seed_block.yml"


def _migrated(content: bytes) -> bytes:
    Path("c.yml").write_bytes(content)
    assert main(["migrate", "c.yml", "--in-place"]) == 0
    return Path("c.yml").read_bytes()


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key in value for name, leaf in _leaves(value[key], f"{path}/{key}").items()}


def test_the_recommended_block_is_written() -> None:
    """Value by value; what the file says better is listed here."""
    recommended = _leaves(yaml.safe_load(SEED.read_text())["train"]["training_automations"])
    written = _leaves(yaml.safe_load(_migrated(PARAGON))["train"]["training_automations"])
    names = recommended.keys() | written.keys()
    fallback = "/IntelligentLearningRateScheduler/fallback"
    assert {
        name: (recommended.get(name), written.get(name)) for name in names if recommended.get(name) != written.get(name)
    } == {
        f"{fallback}/scheduler_type": ("cosine", "multistep"),
        f"{fallback}/scheduler_params/eta_min": (0.00001, None),
        f"{fallback}/scheduler_params/T_max": (40000, None),
        f"{fallback}/scheduler_params/milestones": (None, [30000, 35000]),
        f"{fallback}/scheduler_params/gamma": (None, 0.5),
        "/IntelligentEarlyStopping/min_epochs": (1000, 0),
    }


@pytest.mark.parametrize(
    "content",
    [
        PARAGON,
        PARAGON.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + PARAGON,
        b"a: &x [1, 2]\nb: *x\ntrain:\n  lr: !!float 2e-4  # \n # odd\n\nval: {a: 'q', \"b\": \xc3\xa9}  # a\ttab\n",
        b"train:\n  lr: 1e-4",
        b"train: {lr: 1}\n",
        b"a: 1",
        b"train:\n  text: |\n    a\n\n    b\n\nother: 1\n",
    ],
    ids=["paragon", "CRLF", "BOM", "odd", "no newline", "braces", "no train", "block text"],
)
def test_every_old_line_stays_and_a_second_run_changes_nothing(content: bytes) -> None:
    """Lines are only added, but for the clip value that has a new owner."""
    new = _migrated(content)
    old_lines = [line.replace(b"grad_clip: true", b"grad_clip: false") for line in content.splitlines(keepends=False)]
    remaining = iter(new.split(b"\r\n") if b"\r\n" in content else new.split(b"\n"))
    assert all(line in remaining for line in old_lines)
    assert _migrated(new) == new
    assert [path.name for path in Path().glob("c.yml.bak*")] == ["c.yml.bak"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a: 1\na: 2\n",
        b"a: }",
        b"{a: 1}",
        b"a: &t\n  lr: 1\ntrain: *t\ntrainer: 1\n",
        b"base: &b\n  lr: 1\n  grad_clip: &g true\nother: *b\ntrain: *b\n",
        b"training_automations: {early_stopping: {patience: -1}}\n",
    ],
)
def test_what_cannot_be_changed_safely_is_refused_and_left(content: bytes) -> None:
    """Status 2, no backup, the same bytes."""
    Path("c.yml").write_bytes(content)
    assert main(["migrate", "c.yml", "--in-place"]) == 2
    assert [path.name for path in Path().glob("c.yml*")] == ["c.yml"]
    assert Path("c.yml").read_bytes() == content


def test_without_a_place_only_the_difference_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written before someone asks for it."""
    Path("c.yml").write_bytes(PARAGON)
    assert main(["migrate", "c.yml"]) == 0
    assert "\n+  training_automations:" in capsys.readouterr().out
    assert [path.name for path in Path().glob("c.yml*")] == ["c.yml"]
    assert Path("c.yml").read_bytes() == PARAGON


def test_links_modes_and_older_backups_are_kept() -> None:
    """The link still leads to the file, which has its mode."""
    Path("real.yml").write_bytes(PARAGON)
    Path("real.yml").chmod(0o640)
    Path("real.yml.bak").write_text("older")
    Path("link.yml").symlink_to("real.yml")
    assert main(["migrate", "link.yml", "--in-place"]) == 0
    assert Path("link.yml").is_symlink()
    assert stat.S_IMODE(Path("real.yml").stat().st_mode) == 0o640
    assert Path("real.yml.bak").read_text() == "older"
    assert Path("real.yml.bak1").read_bytes() == PARAGON


def test_another_place_leaves_the_file_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """The new file is written whole, also where there is nothing to change; no backup is needed."""
    Path("c.yml").write_bytes(PARAGON)
    assert main(["migrate", "c.yml", "--output", "new.yml"]) == 0
    assert "Written: new.yml" in capsys.readouterr().err
    assert main(["migrate", "new.yml", "--output", "same.yml"]) == 0
    assert "new.yml: nothing to change" in capsys.readouterr().err
    assert Path("same.yml").read_bytes() == Path("new.yml").read_bytes() != PARAGON
    assert Path("c.yml").read_bytes() == PARAGON
    assert sorted(path.name for path in Path().iterdir()) == ["c.yml", "new.yml", "same.yml"]


@pytest.mark.parametrize("name", ["c.yml", "other.yml"])
def test_a_file_that_is_written_over_is_kept(name: str) -> None:
    """Also where ``--output`` names it, the configuration itself or another file."""
    Path("c.yml").write_bytes(PARAGON)
    Path("other.yml").write_bytes(b"a: 1\n")
    before = Path(name).read_bytes()
    assert main(["migrate", "c.yml", "--output", name]) == 0
    assert Path(f"{name}.bak").read_bytes() == before != Path(name).read_bytes()


@pytest.mark.parametrize("key", ["grad_clip_norm", "clip_grad_norm"])
def test_a_clip_value_under_another_name_is_an_owner_too(key: str) -> None:
    """It is turned off, and lives on as the threshold to start from."""
    new = yaml.safe_load(_migrated(f"train:\n  total_iter: 40000\n  {key}: 0.5\n".encode()))["train"]
    assert new[key] is None
    assert new["training_automations"]["AdaptiveGradientClipping"]["initial_threshold"] == 0.5


def test_what_only_the_user_can_decide_is_told_and_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    """Which metric is meant is not guessed; everything else is mended, and the status is that of ``check``."""
    section = "IntelligentEarlyStopping: {monitor_metric: val/lpips, min_epochs: 9999}"
    text = f"train:\n  total_iter: 40000\n  training_automations:\n    {section}\n"
    Path("c.yml").write_text(text + "val: {val_freq: 1000, metrics: {psnr: {}, ssim: {}}}\n")
    assert main(["migrate", "c.yml", "--output", "new.yml"]) == 1
    assert Path("new.yml").read_text().count("min_epochs: 0}") == 1
    told = [line for line in capsys.readouterr().err.splitlines() if "by hand" in line]
    assert len(told) == 1
    assert told[0].startswith("new.yml:4: left to be mended by hand: it watches val/lpips")
    assert main(["check", "new.yml"]) == 1


def test_a_place_that_cannot_be_written_to_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and a sentence."""
    Path("c.yml").write_bytes(PARAGON)
    assert main(["migrate", "c.yml", "--output", "nowhere/new.yml"]) == 2
    assert "nowhere/new.yml: cannot be written (No such file or directory)" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["c.yml"]
