"""What import-linter cannot see: private parts of Lightning stay in one module, and files and functions stay small.

The direction of imports is a set of contracts in pyproject.toml, checked by `make lint`.
"""

import ast
from functools import cache
from pathlib import Path

import lightning.pytorch
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

import lightning_automations

PACKAGE = Path(lightning_automations.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
INTERNALS = PACKAGE / "lightning_internals.py"
LIGHTNING_PACKAGES = ("lightning", "pytorch_lightning", "lightning_fabric")
# Names under which our code holds objects of Lightning: no private attribute of theirs is ours to read.
LIGHTNING_OBJECTS = {
    "trainer", "pl_module", "lightning_module", "fit_loop", "epoch_loop", "batch_loop", "loop", "strategy",
    "automatic_optimization", "datamodule", "logger",
}  # fmt: skip
LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 40


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _defined_or_assigned(tree: ast.AST) -> set[str]:
    """Private names that a module defines, or assigns as attributes of `self`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _root_name(node) == "self":
            names.add(node.attr)
    return {name for name in names if _is_private(name)}


def _root_name(node: ast.Attribute) -> str | None:
    return node.value.id if isinstance(node.value, ast.Name) else None


def _last_name(node: ast.expr) -> str | None:
    """`b` for `a.b`, `a` for `a`; None for what has no name, a call for instance."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


@cache
def _private_in_lightning() -> frozenset[str]:
    folder = Path(lightning.pytorch.__file__).parent
    return frozenset().union(*(_defined_or_assigned(ast.parse(file.read_text())) for file in folder.rglob("*.py")))


@cache
def _private_in_ours() -> frozenset[str]:
    return frozenset().union(*(_defined_or_assigned(ast.parse(file.read_text())) for file in MODULES))


def _touched(node: ast.AST) -> tuple[ast.expr, str] | None:
    """The object and the attribute that a node reads or writes, also through `getattr` and its kin."""
    if isinstance(node, ast.Attribute):
        return node.value, node.attr
    by_name = isinstance(node, ast.Call) and _last_name(node.func) in {"getattr", "setattr", "hasattr", "delattr"}
    if by_name and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
        return node.args[0], str(node.args[1].value)
    return None


def _is_lightnings(owner: ast.expr, attribute: str) -> bool:
    own_object = _last_name(owner) in {"self", "cls"} or (
        isinstance(owner, ast.Call) and _last_name(owner.func) == "super"
    )
    if own_object:
        return attribute in vars(EarlyStopping)  # the only class of Lightning with private parts that we inherit from
    if _last_name(owner) in LIGHTNING_OBJECTS:
        return True
    # torch has private names of its own that Lightning uses too, a tensor's `_version` for instance
    return attribute in _private_in_lightning() - _private_in_ours() - set(dir(torch.Tensor))


def _private_imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.module:
        paths = [f"{node.module}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Import):
        paths = [alias.name for alias in node.names]
    else:
        return []
    parts = [path.split(".") for path in paths]
    return [".".join(path) for path in parts if path[0] in LIGHTNING_PACKAGES and any(map(_is_private, path))]


def _private_uses(source: str) -> list[str]:
    """Every place of a module that touches a private part of Lightning."""
    found = []
    for node in ast.walk(ast.parse(source)):
        found += _private_imports(node)
        touched = _touched(node)
        if touched and _is_private(touched[1]) and _is_lightnings(*touched):
            found.append(f"{ast.unparse(touched[0])}.{touched[1]}")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_parts_of_lightning_stay_in_one_module(module: Path) -> None:
    """Only lightning_internals.py may break when Lightning changes something private."""
    if module != INTERNALS:
        assert _private_uses(module.read_text()) == []


def test_the_one_module_does_touch_private_parts() -> None:
    """The exemption is needed: without private uses the module should go."""
    assert _private_uses(INTERNALS.read_text())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("trainer._anything", ["trainer._anything"]),
        ("trainer.fit_loop._anything = 1", ["trainer.fit_loop._anything"]),
        ("x._logger_connector.reset()", ["x._logger_connector"]),
        ("make()._logger_connector", ["make()._logger_connector"]),
        ("getattr(trainer, '_anything')", ["trainer._anything"]),
        ("self._run_early_stopping_check(trainer)", ["self._run_early_stopping_check"]),
        ("super()._evaluate_stopping_criteria(1)", ["super()._evaluate_stopping_criteria"]),
        (
            "from lightning.pytorch.loops.fit_loop import _FitLoop",
            ["lightning.pytorch.loops.fit_loop._FitLoop"],
        ),
        ("import lightning.pytorch._graveyard", ["lightning.pytorch._graveyard"]),
        ("self._mine = 1\nother._mine\ntrainer.callbacks\ntrainer.__class__", []),
        ("torch._foreach_norm(x)\ntensor._version", []),
    ],
)
def test_private_uses_are_found(source: str, found: list[str]) -> None:
    """The search sees attributes, access by name, inherited parts and imports, and lets our own names be."""
    assert _private_uses(source) == found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_never_imports_from_its_own_front(module: Path) -> None:
    """The lazy names of `lightning_automations` are for users; inside, they would hide the direction of an import."""
    public = set(lightning_automations.__all__)
    used = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "lightning_automations":
            used |= {alias.name for alias in node.names} & public
        elif isinstance(node, ast.Attribute) and _root_name(node) == "lightning_automations":
            used |= {node.attr} & public
    assert used == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(module: Path) -> None:
    """A file answers one question, and a function fits on a screen (its docstring not counted)."""
    source = module.read_text()
    assert len(source.splitlines()) <= LINES_OF_A_FILE
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            documentation = len((ast.get_docstring(node) or "").splitlines())
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - documentation
            assert lines <= LINES_OF_A_FUNCTION, f"{module.name}:{node.lineno} {node.name} has {lines} lines"
