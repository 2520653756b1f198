"""``check`` on two hundred broken files: it says what is wrong and where, and never fails itself."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_automations.cli.check import run_check

ROOT = Path(__file__).parents[2]
SOURCES = [*sorted((ROOT / "example_configs").glob("*.yml")), ROOT / "tests" / "config" / "migration" / "paragon.yml"]
FILES = 200
JUNK = [
    "", "~", "true", "no", "-1", "0", "3.7", "1e999", "-.inf", ".nan", "1" * 400, "0x7f", "2026-01-01", "!!int abc",
    "!!binary 3", "!!python/object:os.system {}", "!unknown 1", "[1, [2, {a: b}]]", "{a: {b: {c: {}}}}", "{" * 40,
    "[" * 2000, "{}", "[]", "'", '"\\x"', "|", ">-", "*nowhere", "&a *a", "&self [*self]", "@", "`", "%", "a: b: c",
    "${nowhere}", "${", "${train.total_iter}", "${train}", "${oc.env:NOT_THERE_AT_ALL}", "${unknown_resolver:1}", "???",
    "\\udcff", "\u2028", "\x85", "\x07", "é", "\U0001f600",
]  # fmt: skip
LINES = [
    "<<: *nowhere", "<<: 3", "<<: [{a: 1}, {enabled: maybe}]", "anchor: &a {x: 1}\nalias: *a\nmerged:\n  <<: *a",
    "self: &s\n  inner: *s", "? [1, 2]\n: 3", "on: 1", "3: 4", "~: 5", "unknown_key: 1", "training_automations: [1]",
    "training_automations:\n  early_stoping:", "train: {grad_clip: &g true, other: *g}",
    "trainer: {callbacks: [1, {}]}",
    "training_automations:\n  patience: ${training_automations}", "---", "...", "%YAML 1.1", "- item", "\tkey: tab",
    "trainer:\n  callbacks:\n  - class_path: lightning_automations.IntelligentEarlyStopping\n    init_args: 3",
]  # fmt: skip

Mutation = Callable[[list[bytes], random.Random], None]


def _place(lines: list[bytes], chance: random.Random) -> int:
    return chance.randrange(len(lines)) if lines else 0


def _delete(lines: list[bytes], chance: random.Random) -> None:
    place = _place(lines, chance)
    del lines[place : place + chance.randint(1, 3)]


def _duplicate(lines: list[bytes], chance: random.Random) -> None:
    place = _place(lines, chance)
    lines[place:place] = lines[place : place + chance.randint(1, 8)]


def _indent(lines: list[bytes], chance: random.Random) -> None:
    place = _place(lines, chance)
    lines[place : place + 1] = [b" " * chance.randint(1, 5) + line for line in lines[place : place + 1]]


def _outdent(lines: list[bytes], chance: random.Random) -> None:
    place = _place(lines, chance)
    lines[place : place + 1] = [line.lstrip(b" ") for line in lines[place : place + 1]]


def _junk(lines: list[bytes], chance: random.Random) -> None:
    """Another value behind a key, three times."""
    with_values = [place for place, line in enumerate(lines) if re.search(rb"[\w'\"]:( |$)", line)]
    for place in chance.sample(with_values, min(3, len(with_values))):
        key, _, _ = lines[place].partition(b":")
        lines[place] = key + b": " + chance.choice(JUNK).encode("utf-8")


def _rename(lines: list[bytes], chance: random.Random) -> None:
    place = _place(lines, chance)
    lines[place : place + 1] = [line.replace(b"a", b"e").replace(b"_", b"-") for line in lines[place : place + 1]]


def _add(lines: list[bytes], chance: random.Random) -> None:
    """Lines of their own, at some depth."""
    place = _place(lines, chance)
    depth = b" " * chance.choice([0, 0, 2, 4])
    lines[place:place] = [depth + line.encode("utf-8") for line in chance.choice(LINES).split("\n")]


def _truncate(lines: list[bytes], chance: random.Random) -> None:
    content = b"\n".join(lines)
    lines[:] = content[: chance.randrange(len(content) + 1)].split(b"\n")


def _bytes(lines: list[bytes], chance: random.Random) -> None:
    """A tab, a mark of byte order, a null, a byte that is no UTF-8, somewhere."""
    content = b"\n".join(lines)
    place = chance.choice([0, chance.randrange(len(content) + 1)])
    some = chance.choice(
        [b"\t", b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\x80\x81", b"\r", b"\xe2\x80\xa8", b"\xed\xa0\x80"]
    )
    lines[:] = (content[:place] + some + content[place:]).split(b"\n")


def _swap(lines: list[bytes], chance: random.Random) -> None:
    one, other = _place(lines, chance), _place(lines, chance)
    if lines:
        lines[one], lines[other] = lines[other], lines[one]


MUTATIONS: list[Mutation] = [
    _delete, _duplicate, _indent, _outdent, _junk, _junk, _rename, _add, _add, _truncate, _bytes, _swap,
]  # fmt: skip


def _broken(number: int) -> bytes:
    """A file that differs from one that is sound; the same for the same number."""
    chance = random.Random(number)
    source = SOURCES[number % len(SOURCES)].read_bytes()
    lines = source.split(b"\n")
    while b"\n".join(lines) == source:
        for mutation in chance.choices(MUTATIONS, k=chance.randint(1, 3)):
            mutation(lines, chance)
    return b"\n".join(lines)


def _line_count(content: bytes) -> int:
    """Lines as YAML counts them."""
    return len(re.split("\r\n|\n|\r|\x85|\u2028|\u2029", content.decode("utf-8", errors="replace")))


def _places(file: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All problems and findings of a file."""
    yield from file.get("problems", ())
    for subject in file.get("subjects", ()):
        yield from subject["findings"]


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """Two hundred files and what they hold."""
    folder = tmp_path_factory.mktemp("broken")
    files = {folder / f"{number:03d}.yml": _broken(number) for number in range(FILES)}
    for path, content in files.items():
        path.write_bytes(content)
    return files


def _answer(files: list[Path], capsys: pytest.CaptureFixture[str], **told: int | None) -> dict[str, Any]:
    """What a program reads, after the exit status was looked at."""
    assert run_check(files, form="json", strict=False, **{"samples": None, "steps": None, **told}) == 2
    answer: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=_no_number)
    assert answer["version"] == 1
    assert [Path(file["file"]) for file in answer["files"]] == files
    return answer


def _without_a_line(answer: dict[str, Any], broken: dict[Path, bytes]) -> list[tuple[str, dict[str, Any]]]:
    """Files, and what is said of them at no line that they have."""
    return [
        (Path(file["file"]).name, one)
        for file in answer["files"]
        for one in _places(file)
        if not 1 <= (one["line"] or 0) <= _line_count(broken[Path(file["file"])]) + 1
    ]


def test_every_problem_of_a_broken_file_has_its_line(
    broken: dict[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, one answer a file, each with a line that the file has; no file is changed."""
    answer = _answer(list(broken), capsys)
    assert FILES * 0.2 < sum(file["readable"] for file in answer["files"]) < FILES * 0.9  # they break in many ways
    assert all(list(_places(file)) or (file["readable"] and file["sound"]) for file in answer["files"])
    assert _without_a_line(answer, broken) == []
    assert {path: path.read_bytes() for path in broken} == broken


def test_a_length_that_is_told_changes_nothing_about_it(
    broken: dict[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """With samples and steps there is more to judge; what was told on the command line has a line all the same."""
    answer = _answer(list(broken)[:80], capsys, samples=640, steps=900)
    readable = {"files": [file for file in answer["files"] if file["readable"]]}
    assert any("900 steps" in one["found"] for file in readable["files"] for one in _places(file))
    assert _without_a_line(readable, broken) == []


def test_a_broken_file_alone_has_the_status_that_its_answer_gives(
    broken: dict[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """0 sound, 1 findings, 2 not readable; each of the three is met."""
    met = set()
    for path in list(broken)[:40]:
        status = run_check([path], form="json", strict=False, samples=None, steps=None)
        (file,) = json.loads(capsys.readouterr().out)["files"]
        assert status == (0 if file["sound"] else 1) if file["readable"] else status == 2
        met.add(status)
    assert met == {0, 1, 2}


def test_what_migrate_would_do_with_a_broken_file_is_no_traceback_either(
    broken: dict[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """The document for readers shows the change, or leaves it out; the file stays as it is."""
    some = list(broken)[:100]
    assert run_check(some, form="markdown", strict=False, samples=None, steps=None) == 2
    told = capsys.readouterr().out
    assert all(path.name in told for path in some)
    assert {path: path.read_bytes() for path in broken} == broken
