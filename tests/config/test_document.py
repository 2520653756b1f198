"""Reading a configuration: files that are not there or not readable, and things that are no configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_automations.config.document import BYTES_MAX, read_document
from lightning_automations.core.errors import ConfigError, Problem


def _told(source: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read_document(source)
    return str(caught.value)


def _write(content: str | bytes) -> None:
    Path("c.yml").write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("as_given", [str, Path])
def test_a_file_is_read_with_its_lines(as_given: Callable[[str], object]) -> None:
    """A path may be a text or a Path; problems get file and line."""
    _write("a:\n  b: 1\n")
    document = read_document(as_given("c.yml"))
    assert document.data == {"a": {"b": 1}}
    assert document.line("a.b") == 2
    assert str(document.located(Problem(path="a.b", expected="x", got="y"))) == "c.yml:2: a.b: expected x, got y."


def test_a_line_that_is_known_stays() -> None:
    """A repeated key is reported where it is repeated, not where its path leads."""
    _write("a: 1\n\na: 1\n")
    document = read_document("c.yml")
    assert [str(document.located(problem)) for problem in document.problems] == [
        "c.yml:3: a: expected each key once, got it again after line 1."
    ]


@pytest.mark.parametrize("source", [{"a": 1}, OmegaConf.create({"a": 1})])
def test_a_mapping_is_taken_as_it_is(source: Any) -> None:
    """It has neither file nor lines; a DictConfig stays one."""
    document = read_document(source)
    assert document.data is source
    assert str(document.located(Problem(path="a", expected="x", got="y"))) == "a: expected x, got y."
    assert document.line("a") is None


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    """Editors of Windows put one in front."""
    _write(b"\xef\xbb\xbfa: 1")
    assert read_document("c.yml").data == {"a": 1}


@pytest.mark.parametrize(
    ("source", "got"),
    [
        (None, "null"),
        (5, "5 (int)"),
        (b"c.yml", "b'c.yml' (bytes)"),
        ([{"a": 1}], "[{'a': 1}] (list)"),
        (OmegaConf.create([1]), "[1] (ListConfig)"),
    ],
)
def test_another_type_is_refused(source: object, got: str) -> None:
    """The message names what is accepted."""
    assert _told(source) == f"expected a path, a mapping or a DictConfig, got {got}."


def test_a_missing_file_is_named_with_its_neighbour() -> None:
    """A typo in a file name is the usual reason."""
    _write("a: 1")
    assert _told("d.yml") == "d.yml: expected a YAML file, got a path where no file is. Did you mean 'c.yml'?"
    assert _told("zzzzzz") == "zzzzzz: expected a YAML file, got a path where no file is."
    assert _told("no/d.yml") == "no/d.yml: expected a YAML file, got a path where no file is."


def test_a_text_of_yaml_is_not_a_path() -> None:
    """Whoever passes the text of a file is told what is taken."""
    assert _told("a: 1\nb: 2") == (
        "a: 1\nb: 2: expected a YAML file, got a path where no file is. A text is taken for the path of a file; pass a "
        "mapping to configure without one."
    )


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A run folder is easily taken for its file."""
    assert _told(tmp_path) == f"{tmp_path}: expected a YAML file, got a folder."


def test_a_file_without_permission_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's refusal becomes a problem (tests may run as root, for whom no file is closed)."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    _write("a: 1")
    monkeypatch.setattr(Path, "open", refuse)
    assert _told("c.yml") == "c.yml: expected a YAML file, got one that may not be read (no permission)."


def test_a_path_that_the_system_refuses_is_a_problem() -> None:
    """Too long a name, a null character: no exception of another kind comes out."""
    long = "x" * 300
    assert _told(long) == (f"{long}: expected a YAML file, got a path that cannot be opened (File name too long).")
    assert _told("a\0b").endswith("expected a YAML file, got a path that cannot be opened (embedded null byte).")


@pytest.mark.parametrize("content", ["", "\n\n", "# a comment\n", "---\n", "null"])
def test_an_empty_file_is_refused(content: str) -> None:
    """Nothing but comments is nothing."""
    _write(content)
    assert (
        _told("c.yml")
        == "c.yml: expected a mapping at the root of the file, got an empty file, or one of comments alone."
    )


@pytest.mark.parametrize(("content", "got"), [("- 1\n- 2", "[1, 2] (list)"), ("a text", "'a text' (str)")])
def test_a_root_that_is_no_mapping_is_refused(content: str, got: str) -> None:
    """A list or a text has no sections."""
    _write(content)
    assert _told("c.yml") == f"c.yml: expected a mapping at the root of the file, got {got}."


def test_a_file_that_is_not_utf8_is_refused() -> None:
    """The first wrong byte and its line are named."""
    _write(b"a: 1\nb: \xff\n")
    assert _told("c.yml") == "c.yml:2: expected a file in UTF-8, got the byte 0xff."


def test_a_large_file_is_refused() -> None:
    """A file of one byte more than the limit is not parsed at all, one at the limit is."""
    _write("#" * BYTES_MAX)
    assert "an empty file" in _told("c.yml")
    _write("#" * (BYTES_MAX + 1))
    assert _told("c.yml") == f"c.yml: expected a configuration of at most {BYTES_MAX} bytes, got a larger file."


def test_a_device_without_end_is_refused() -> None:
    """No more is read than the limit."""
    assert _told("/dev/zero") == f"/dev/zero: expected a configuration of at most {BYTES_MAX} bytes, got a larger file."


def test_nested_aliases_are_refused_with_the_file() -> None:
    """The classic bomb: nine levels of nine."""
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10))
    _write(f"l0: &l0 [x, x, x, x, x, x, x, x, x]\n{levels}")
    assert _told("c.yml") == "c.yml: expected at most 100000 values that aliases repeat, got more."


def test_invalid_yaml_has_file_and_line() -> None:
    """The problem stands where the parser stopped."""
    _write("a: 1\nb: }\n")
    assert _told("c.yml").startswith("c.yml:2: expected valid YAML, got a fault (")


def test_problems_of_a_root_that_is_no_mapping_are_listed_with_it() -> None:
    """Everything that is known is said."""
    _write("- !x 1\n- 2")
    assert _told("c.yml") == (
        "2 problems in the configuration:\n"
        "  c.yml:1: 0: expected a plain YAML value, got the tag !x. Tags that build objects are not followed.\n"
        "  c.yml: expected a mapping at the root of the file, got [None, 2] (list)."
    )
