"""A YAML text with its values and lines."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lightning_automations.config import yaml_tree
from lightning_automations.config.yaml_tree import YamlTree, joined
from lightning_automations.core.errors import ConfigError


def _told(text: str) -> str:
    """The message for a text that is no YAML."""
    with pytest.raises(ConfigError) as caught:
        YamlTree(text)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def _problems(text: str) -> list[str]:
    return [str(problem) for problem in YamlTree(text).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!!float 2e-4", 0.0002),
        ("1e-4", 0.0001),
        ("2e3", 2000.0),
        ("1.5E+3", 1500.0),
        (".5e1", 5.0),
        ("1_000", 1000),
        ("0x10", 16),
        (".inf", float("inf")),
        ("~", None),
        ("yes", True),
        ("2024-01-02", "2024-01-02"),
        ("=", "="),
        ("e5", "e5"),
        ("'1e-4'", "1e-4"),
        ("!!binary aGk=", b"hi"),
        ("!!python/object/apply:pathlib.PosixPath [/a, b]", "/a/b"),
    ],
)
def test_scalars_are_read_as_omegaconf_reads_them(text: str, value: Any) -> None:
    """A float needs no dot before its exponent, a date stays a text, and a saved path is a text."""
    tree = YamlTree(f"a: {text}")
    assert tree.data == {"a": value}
    assert type(tree.data["a"]) is type(value)
    assert tree.problems == []


def test_pyyaml_itself_is_left_as_it_is() -> None:
    """Reading floats better is our business alone: other users of PyYAML in the process see no difference."""
    YamlTree("a: 1e-4")
    assert yaml.safe_load("1e-4") == "1e-4"
    assert str(yaml.safe_load("2024-01-02")) == "2024-01-02"
    assert not isinstance(yaml.safe_load("2024-01-02"), str)


def test_an_empty_text_holds_nothing() -> None:
    """Comments alone are no document."""
    tree = YamlTree("# nothing\n")
    assert (tree.data, tree.line("a")) == (None, None)


TEXT = """\
base: &base
  patience: 1
  deep: {x: 1}
a.b: 0
a:
  b.c: 0
  b: {c: 0}
list:
  - 1
  - x: 2
copy:
  <<: *base
  patience: 2
alias: *base
1: one
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("base", 1),
        ("base.patience", 2),
        ("base.deep.x", 3),
        ("a.b", 4),
        ("a.b.c", 4),
        ("list.0", 9),
        ("list.1.x", 10),
        ("copy.patience", 13),
        ("copy.deep.x", 3),
        ("alias.patience", 2),
        ("copy.unknown", 11),
        ("1", 15),
        ("unknown", None),
        ("", None),
    ],
)
def test_a_path_has_a_line(path: str, line: int | None) -> None:
    """The line of the key, also through merges and aliases; of the mapping around it where the key is not there."""
    assert YamlTree(TEXT).line(path) == line


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "a: &a {x: 1, y: 2}\nb: &b {x: 3}\nc: {<<: [*a, *b], z: 0}\nd: {x: 9, <<: *a}",
        "a: {<<: {x: 1, <<: {y: 2}}}",
        "a: &a [1, *b]\n".replace("*b", "2") + "b: [*a, *a]",
        "? x\n: 1\n? y\n",
    ],
)
def test_values_are_those_of_pyyaml(text: str) -> None:
    """Merges and aliases mean what they mean elsewhere."""
    tree = YamlTree(text)
    assert tree.data == yaml.safe_load(text)
    assert tree.problems == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "3: a: expected each key once, got it again after line 1."),
        ("a:\n  b: 1\n  b: 2", "3: a.b: expected each key once, got it again after line 2."),
        (
            "a: &a {x: 1}\nb: {<<: *a, <<: {x: 2}}",
            "2: b.<<: expected each key once, got it again after line 2. Merge several mappings as a list, [*a, *b].",
        ),
        (
            "a: 1\nb: !!python/object/apply:os.system ['exit 1']",
            "2: b: expected a plain YAML value, got the tag !!python/object/apply:os.system. "
            "Tags that build objects are not followed.",
        ),
        (
            "a: !include b.yml",
            "1: a: expected a plain YAML value, got the tag !include. Tags that build objects are not followed.",
        ),
        (
            "a: !!set {b, c}",
            "1: a: expected a plain YAML value, got the tag !!set. Tags that build objects are not followed.",
        ),
        ("a: !!int b", "1: a: expected a value that fits its tag !!int, got 'b'."),
        ("a: !!bool maybe", "1: a: expected a value that fits its tag !!bool, got 'maybe'."),
        ("a: !!timestamp soon", "1: a: expected a value that fits its tag !!timestamp, got 'soon'."),
        ("a: !!int ''", "1: a: expected a value that fits its tag !!int, got ''."),
        ("a: !!str [b]", "1: a: expected a value that fits its tag !!str, got a list."),
        ("a: !!int {b: c}", "1: a: expected a value that fits its tag !!int, got a mapping."),
        ("? [a, b]\n: 1", "1: expected keys that are texts or numbers, got a list as a key."),
        ("a:\n  ? {b: 1}\n  : 1", "2: a: expected keys that are texts or numbers, got a mapping as a key."),
        ("a: &a [1, *a]", "1: a.1: expected a value that does not hold itself, got an alias of a value around it."),
        ("a: &a {<<: *a}", "1: a: expected a value that does not hold itself, got an alias of a value around it."),
        ("a: {<<: 3}", "1: a.<<: expected a mapping to merge, got a single value."),
        ("a: {<<: [{b: 1}, [c]]}", "1: a.<<: expected a mapping to merge, got a list."),
    ],
)
def test_what_is_wrong_with_a_value_has_a_line(text: str, problem: str) -> None:
    """What can be read is read, and each value that cannot is a problem of its own."""
    assert _problems(text) == [problem]


def test_every_problem_is_found() -> None:
    """Reading goes on behind a problem."""
    assert [problem.line for problem in YamlTree("a: !x 1\nb: !!int y\nc: 0\nc: !z {}").problems] == [4, 1, 2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\nb: [1\nc: 2",
            "3: expected valid YAML, got a fault (while parsing a flow sequence: expected ',' or ']', but got ':').",
        ),
        (
            "a:\n\tb: 1",
            "2: expected valid YAML, got a fault (while scanning for the next token: found character '\\t' that cannot "
            "start any token). Write spaces in the place of tabs.",
        ),
        ("a: 1\nb: *c", "2: expected valid YAML, got a fault (found undefined alias 'c')."),
        ("a: b\nc: \x07", "2: expected valid YAML, got the character U+0007."),
        (
            "a: 1\n---\nb: 2",
            "2: expected valid YAML, got a fault (expected a single document in the stream: but found another "
            "document).",
        ),
        ("[" * 1000, "expected a document nested less deeply, got one that is nested too deeply."),
    ],
)
def test_a_text_that_is_no_yaml_says_where(text: str, message: str) -> None:
    """The parser's own words, with the line and without its picture of the text."""
    assert _told(text) == message


def test_an_impossible_character_is_a_problem() -> None:
    """PyYAML raises a plain ValueError for a code point beyond Unicode."""
    assert _told('a: "\\UFFFFFFFF"').startswith("expected valid YAML, got a fault (")


def test_merges_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`<<` copies keys: a small file must not become a large one."""
    monkeypatch.setattr(yaml_tree, "MERGED_KEYS_MAX", 5)
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a}\nc: {<<: *b}\nd: {<<: *b}"
    assert _told(text) == "4: d.<<: expected at most 5 merged keys, got more."
    monkeypatch.setattr(yaml_tree, "MERGED_KEYS_MAX", 6)
    assert YamlTree(text).data["d"] == {"x": 1, "y": 2}


def test_nested_aliases_cost_no_more_than_their_text() -> None:
    """Forty levels of two aliases stand for a million million values, which are shared, not copied."""
    levels = "\n".join(f"l{level}: &l{level} [*l{level - 1}, *l{level - 1}]" for level in range(1, 40))
    merges = "\n".join(f"m{level}: &m{level} {{<<: [*m{level - 1}, *m{level - 1}]}}" for level in range(1, 40))
    tree = YamlTree(f"l0: &l0 [x, x]\n{levels}\nm0: &m0 {{x: 1}}\n{merges}")
    assert tree.data["l39"][0] is tree.data["l39"][1]
    assert tree.data["m39"] == {"x": 1}


@pytest.mark.parametrize(("path", "key", "text"), [("", "a", "a"), ("a", 1, "a.1"), ("a.b", "c", "a.b.c")])
def test_paths_are_joined_with_dots(path: str, key: object, text: str) -> None:
    """The root adds no dot."""
    assert joined(path, key) == text


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc =.-${}:é", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.", min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(data=documents)
def test_what_yaml_writes_is_read_back(data: Any) -> None:
    """A document written by PyYAML comes back equal, and every key has a line."""
    tree = YamlTree(yaml.safe_dump({"root": data}))
    assert tree.data == {"root": data}
    assert tree.problems == []
    assert tree.line("root") == 1


@given(data=st.dictionaries(st.text("abc", min_size=1), st.floats(allow_nan=False) | st.integers(), max_size=4))
def test_what_omegaconf_writes_is_read_back(data: dict[str, Any]) -> None:
    """OmegaConf writes floats as `1e-05`, which PyYAML alone would read as a text."""
    assert YamlTree(OmegaConf.to_yaml(OmegaConf.create(data)) if data else "{}").data == data


@given(text=st.text("abc: -\n[]{}&*<!|>'\"\\%#?,~01.xuU\t", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but ConfigError."""
    try:
        YamlTree(text)
    except ConfigError as error:
        problems = error.problems
        assert len(problems) == 1


def test_a_key_that_is_repeated_in_another_form_is_told_as_it_is_written() -> None:
    """1 and true are the same key to Python."""
    (problem,) = YamlTree("1: a\ntrue: b\n").problems
    assert (problem.path, problem.line, problem.got) == ("true", 2, "it again after line 1")
