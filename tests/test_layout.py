"""The floors of the house: what may import what, where torch may be, and how long things may be."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

Trees = dict[str, ast.Module]

SRC = Path(__file__).parents[1] / "src"
# From the ground up. What shares a floor knows nothing of its neighbour, but on the ground.
FLOORS = """
    tape verdict _errors _failure _printable _cells _process_wide _progress _record _room _steps
    _given |
    rules | engine | files | claims diagnose | judging | capture grading | experiment | report |
    api | __init__ | _ending | commands | cli pytest_gradwitness | gradwitness_command |
    __main__
"""
FLOOR = {room: n for n, rooms in enumerate(FLOORS.split("|")) for room in rooms.split()}
# Torch reads its own files; all else of the witness's side does without it.
TORCH = tuple(
    f"gradwitness.{name}" for name in ("capture", "experiment.program", "claims.torch_files")
)

MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
}


@pytest.fixture(scope="module")
def trees() -> Trees:
    """Every module as it is parsed: a million objects, while the tests of this file run."""
    return {m: ast.parse(path.read_text(encoding="utf-8")) for m, path in MODULES.items()}


def imports(tree: ast.AST, *, for_types: bool = True) -> set[str]:
    """Return the modules that a file imports, wherever it does so."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else str(node.module) for name in names}
        elif for_types or not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            found |= imports(node, for_types=for_types)
    return found


def room(module: str) -> str:
    package, *parts = module.split(".")
    return parts[0] if parts else "__init__" if package == "gradwitness" else package


def test_imports_go_down_only(trees: Trees) -> None:
    up = [
        f"{module} -> {other}"
        for module, tree in trees.items()
        for other in imports(tree) & MODULES.keys()
        if FLOOR[room(other)] >= FLOOR[room(module)] > 0 and room(other) != room(module)
    ]
    assert not up


def test_no_import_leads_back_to_where_it_came_from(trees: Trees) -> None:
    # The face of a package imports what lies in it; what lies in it may import a neighbour.
    inner = {m: tree for m, tree in trees.items() if MODULES[m].name != "__init__.py"}
    TopologicalSorter({m: imports(tree) & inner.keys() for m, tree in inner.items()}).prepare()


def test_only_recording_imports_torch(trees: Trees) -> None:
    found = {m: imports(tree, for_types=False) for m, tree in trees.items()}
    users = [m for m, names in found.items() if any(n.split(".")[0] == "torch" for n in names)]
    assert users
    assert not [module for module in users if not module.startswith(TORCH)]


def test_files_and_functions_are_short(trees: Trees) -> None:
    for module, tree in trees.items():
        assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 400, module
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                begin = node.body[1 if ast.get_docstring(node) and node.body[1:] else 0]
                assert (node.end_lineno or 0) - begin.lineno < 60, f"{module}: {node.name}"


def test_every_package_says_that_it_is_typed() -> None:
    packages = {path.parent for path in MODULES.values() if path.parent.parent == SRC}
    assert len(packages) == 3
    assert all((package / "py.typed").is_file() for package in packages)
