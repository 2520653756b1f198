"""What a wrong configuration is told."""

import pickle

import pytest

from lightning_automations.core.errors import ConfigError, Problem, nearest


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(path="a.b", expected="x", got="y"), "a.b: expected x, got y."),
        (Problem(path="a.b", expected="x", got="y", hint="Do z."), "a.b: expected x, got y. Do z."),
        (Problem(path="a.b", expected="x", got="y", file="c.yml"), "c.yml: a.b: expected x, got y."),
        (Problem(path="a.b", expected="x", got="y", file="c.yml", line=3), "c.yml:3: a.b: expected x, got y."),
        (Problem(path="", expected="x", got="y", file="c.yml"), "c.yml: expected x, got y."),
        (Problem(path="", expected="x", got="y"), "expected x, got y."),
    ],
)
def test_a_problem_says_where_what_and_what_to_do(problem: Problem, text: str) -> None:
    """File and line come first, in the form that editors follow; what is not known is left out."""
    assert str(problem) == text


@pytest.mark.parametrize(("path", "moved"), [("a", "outer.a"), ("", "outer")])
def test_a_problem_is_seen_from_further_out(path: str, moved: str) -> None:
    """A prefix is put before the path, and takes its place where there is none."""
    assert Problem(path=path, expected="x", got="y").under("outer").path == moved


def test_one_problem_is_the_whole_message() -> None:
    """A single problem needs no headline."""
    assert str(ConfigError([Problem(path="a", expected="x", got="y")])) == "a: expected x, got y."


def test_several_problems_are_counted_and_listed() -> None:
    """Every problem has a line of its own, in the order given."""
    error = ConfigError(Problem(path=path, expected="x", got="y") for path in "ba")
    assert str(error) == "2 problems in the configuration:\n  b: expected x, got y.\n  a: expected x, got y."


def test_an_error_survives_the_way_between_processes() -> None:
    """A launcher of several ranks sends exceptions through pickle: problems and message arrive."""
    error = ConfigError([Problem(path="a", expected="x", got="y", file="c.yml", line=1)])
    sent = pickle.loads(pickle.dumps(error))
    assert sent.problems == error.problems
    assert str(sent) == str(error)


def test_an_error_of_the_configuration_is_a_value_error() -> None:
    """Programs that know nothing of this package catch it as what it is."""
    assert issubclass(ConfigError, ValueError)


@pytest.mark.parametrize(
    ("name", "question"),
    [("patiense", "Did you mean 'patience'?"), ("PATIENSE", "Did you mean 'patience'?"), ("zzz", None), ("", None)],
)
def test_the_nearest_name_is_asked_for(name: str, question: str | None) -> None:
    """A name that is close to a known one gets a question, any other gets none."""
    assert nearest(name, ["mode", "patience"]) == question
