"""The file of declarations that pyproject.toml names, for `check` and for pytest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from experiment.invoke import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]

TRAIN = """
import torch

class Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, g):
        return g * FACTOR

FACTOR = 1.0

def step():
    x = torch.linspace(-2, 2, 7, requires_grad=True)
    (Through.apply(3 * x) ** 2).sum().backward()
"""
DECLARED = """
import gradwitness
from train_declared import Through

@gradwitness.surrogate(Through, "x", "g")
def _(g, y):
    return g
"""
PROJECT = '[tool.gradwitness]\ndeclarations = "what_is_meant.py"\n'


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train_declared.py").write_text(TRAIN)
    (tmp_path / "what_is_meant.py").write_text(DECLARED)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in ("train_declared", "what_is_meant"):
            del sys.modules[name]
    sys.path[:] = path


@pytest.mark.parametrize("command", [["check"], ["check", "--probe"], ["graph", "-o", "g.svg"]])
def test_what_is_declared_there_is_meant(repository: Path, command: list[str]) -> None:
    name, *options = command
    done = cli(name, "train_declared.py:step", *options)
    assert done.code == 0, done.out + done.err
    # From another folder too: the nearest pyproject.toml above the program counts.
    (repository / "pyproject.toml").unlink()
    for module in ("train_declared", "what_is_meant"):
        sys.modules.pop(module, None)
    assert cli(name, "train_declared.py:step", *options).code == 1


def test_a_fault_of_what_is_declared_is_found(repository: Path) -> None:
    (repository / "train_declared.py").write_text(TRAIN.replace("FACTOR = 1.0", "FACTOR = 1.01"))
    done = cli("check", "train_declared.py:step")
    assert done.code == 1
    assert "evidence declared by the program, not derived: dx = g" in done.out


def test_a_program_that_imports_it_itself(repository: Path) -> None:
    # It then runs once: a second time, everything would be declared already.
    text = TRAIN.replace("def step():", "def step():\n    import what_is_meant")
    (repository / "train_declared.py").write_text(text)
    assert cli("check", "train_declared.py:step").code == 0


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "what_is_meant.py",
            DECLARED.replace('"x"', '"z"'),
            "py:5: Through.forward has no argument",
        ),
        (
            "what_is_meant.py",
            DECLARED.replace("Through,", "Trough,"),
            "py:5: NameError: name 'Trough'",
        ),
        (
            "what_is_meant.py",
            DECLARED.replace("t Through", "t Trough"),
            "py:3: ImportError: cannot",
        ),
        ("what_is_meant.py", DECLARED + "\n(", "py:9: '(' was never closed"),
        (
            "what_is_meant.py",
            DECLARED * 2,
            "py:12: Through has a declared gradient of 'x'; replace",
        ),
        (
            "pyproject.toml",
            PROJECT.replace("what_", "that_"),
            "names 'that_is_meant.py': no such file",
        ),
        (
            "pyproject.toml",
            PROJECT.replace("declar", "decler"),
            "has no 'declerations': it has decl",
        ),
        (
            "pyproject.toml",
            PROJECT.replace('"what_is_meant.py"', "3"),
            "must be a file, or a list of",
        ),
        ("pyproject.toml", "[tool", "pyproject.toml is not TOML: "),
    ],
)
def test_errors_say_where_and_what(repository: Path, file: str, text: str, said: str) -> None:
    (repository / file).write_text(text)
    done = cli("check", "train_declared.py:step")
    assert done.code == 2
    assert f"{file.removesuffix('.py').removesuffix('.toml')}" in done.err
    assert said in done.err


def test_a_declaration_in_the_program_itself_has_its_line_too(repository: Path) -> None:
    (repository / "pyproject.toml").unlink()
    text = TRAIN + '\nimport gradwitness\ngradwitness.surrogate(Through, "z", "g")\n'
    (repository / "train_declared.py").write_text(text)
    done = cli("check", "train_declared.py:step")
    assert done.code == 2
    assert "train_declared.py:20: Through.forward has no argument 'z': it takes" in done.err


def test_several_files(repository: Path) -> None:
    (repository / "more.py").write_text("import what_is_meant")
    (repository / "pyproject.toml").write_text(
        '[tool.gradwitness]\ndeclarations = ["what_is_meant.py", "more.py"]\n'
    )
    assert cli("check", "train_declared.py:step").code == 0


def test_other_tools_and_no_table_are_fine(repository: Path) -> None:
    (repository / "pyproject.toml").write_text('[tool.other]\ndeclarations = "absent.py"\n')
    assert cli("check", "train_declared.py:step").code == 1


def test_the_pytest_plugin_runs_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        train_declared=TRAIN,
        what_is_meant=DECLARED,
        test_it="""
        import train_declared
        def test_step(witness):
            with witness.watch():
                train_declared.step()
        def test_again(witness):
            with witness.watch():
                train_declared.step()
        """,
    )
    pytester.path.joinpath("pyproject.toml").write_text(PROJECT)
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=2)
    pytester.path.joinpath("pyproject.toml").write_text("")
    pytester.runpytest_subprocess("-q").assert_outcomes(failed=2)
