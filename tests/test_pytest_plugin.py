"""The pytest plugin, in test runs of its own; and that it costs nothing where it is not used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
import pytest
import torch

class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1
    @staticmethod
    def backward(ctx, g):
        return 2 * g

def wrong():
    x = torch.ones(3, requires_grad=True)
    (Double.apply(x.sin()) * 3).sum().backward()

def right():
    torch.ones(3, requires_grad=True).sin().sum().backward()

def test_watch(witness):
    with witness.watch():
        wrong()

def test_assert(witness):
    witness.assert_gradients(wrong)

def test_gradcheck(witness):
    witness.gradcheck(Double.apply, torch.ones(3, requires_grad=True))

def test_claims(witness):
    model = torch.nn.Linear(2, 1)
    step = lambda: model(torch.ones(1, 2)).sum().backward()
    witness.assert_gradients({"weight": torch.full((1, 2), 5.0), "bias": torch.ones(1)}, step)

def test_right(witness):
    with witness.watch():
        right()
    assert witness.gradcheck(torch.sin, torch.ones(3, requires_grad=True))
    witness.assert_gradients(right)

def test_doubtful(witness):
    with witness.watch():
        x = torch.ones(3, 1, 1, requires_grad=True)
        torch.conv_tbc(x, torch.ones(1, 1, 1), torch.zeros(1)).sum().backward()

def test_never_begun(witness):
    witness.watch()

def test_other_failure(witness):
    with witness.watch():
        wrong()
    assert 1 == 2

def test_verdict_is_the_test_s(witness):
    with witness.watch(required=False) as watched:
        wrong()
    assert watched.verdict.value == "DISAGREES"

@pytest.mark.parametrize("name", ["a/../b", "x" * 300, "a:b*c?", "\\u00e9"])
def test_names(witness, name):
    with witness.watch():
        right()

def test_without():
    pass
"""
LINE = 11  # of `return 2 * g`
# What is told of a disagreement, however it was found.
RAISED = """
import gradwitness as gw
from gradwitness.verdict import Fault

def test_raised():
    raise gw.GradientDisagreement("DISAGREES\\nwhy", [Fault(gw.Verdict.DISAGREES, "step", "why")])

def test_expected():
    try:
        test_raised()
    except AssertionError:
        pass
"""
_PLAIN = ("-p", "no:cacheprovider", "-W", "error", "-q")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with quick tests, which need no torch."""
    (tmp_path / "test_it.py").write_text(RAISED)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run every way to use the plugin once; return the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "test_it.py").write_text(TESTS)
    words = ("--junitxml=out.xml", "--gradwitness-report=made/here")
    done = run(folder, *words, env={"GITHUB_ACTIONS": "true"})
    assert done.returncode == 1, done.stdout + done.stderr
    return folder, done.stdout


def run(
    folder: Path, *words: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin, as one does who has it installed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB", "PYTEST"))}
    # Where the entry point is installed, -p finds it loaded already.
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pytest", "-p", "pytest_gradwitness", *_PLAIN, *words],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def section(out: str, test: str) -> str:
    """Return what is shown of one failing test."""
    found = re.search(
        rf"^_+ {test} _+$(.*?)(?=^_{{10,}} \w+ _{{10,}}$|^=====|\Z)", out, re.M | re.S
    )
    assert found, out
    return found[1]


def test_each_way_to_fail_is_told_once(whole: tuple[Path, str]) -> None:
    _, out = whole
    assert "7 failed, 7 passed" in out

    watched = section(out, "test_watch")
    assert "gradients DISAGREES: DoubleBackward #2, gradient of x (input 0) at " in watched
    assert f"test_it.py:{LINE}" in watched
    assert watched.count("--- gradwitness ---") == 1
    assert watched.count("DISAGREES  backward: DoubleBackward #") == 1
    assert "times the" in watched
    assert "write    " in watched

    for test in ("test_assert", "test_gradcheck"):
        said = section(out, test)
        assert said.count("DISAGREES  backward: DoubleBackward #") == 1, said
        # The test's own line is where it fails, and no line of gradwitness is shown.
        assert "src/gradwitness" not in said
        assert re.search(r"^test_it\.py:\d+: Grad", said, re.M)
    assert "DISAGREES" in section(out, "test_claims")
    assert "no rule for aten.conv_tbc.default" in section(out, "test_doubtful")
    assert "INCONCLUSIVE: the `witness` fixture was used but nothing was watched" in section(
        out, "test_never_begun"
    )
    other = section(out, "test_other_failure")
    assert "assert 1 == 2" in other
    assert "first wrong step: DoubleBackward" in other


def test_reports_are_written_under_safe_names(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    made = sorted((folder / "made" / "here").iterdir())
    names = [path.name for path in made]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,160}", name) for name in names)
    assert not [name for name in names if "without" in name]
    for test in ("test_watch", "test_right", "test_other_failure", "test_doubtful"):
        own = [name for name in names if re.match(rf"test_it\.py_{test}-", name)]
        assert {Path(name).suffix for name in own} == {".txt", ".json", ".svg"}, names
    for test in ("test_gradcheck", "test_claims", "test_never_begun"):
        (own_text,) = [p for p in made if p.name.startswith(f"test_it.py_{test}-")]
        assert own_text.read_text().startswith(("DISAGREES\n", "INCONCLUSIVE\n"))
    # Four names of one test differ in what a file name cannot hold.
    assert len([n for n in names if "test_names" in n and n.endswith(".txt")]) == 4


def test_a_folder_that_cannot_be_is_told(folder: Path) -> None:
    (folder / "file").write_text("")
    done = run(folder, "--gradwitness-report=file/below")
    assert done.returncode != 0
    assert "cannot create the folder" in done.stdout + done.stderr


def annotated(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("::")]


def test_github_is_told_the_root_causes(whole: tuple[Path, str]) -> None:
    lines = annotated(whole[1])
    double = f"::error file=test_it.py,line={LINE},title=gradwitness%3A DoubleBackward #"
    claim = "::error title=gradwitness%3A weight%3A "
    assert [line for line in lines if line.startswith(double)]
    assert [line for line in lines if line.startswith(claim)]
    assert all(line.startswith((double, claim, "::warning ")) for line in lines), lines
    doubts = [line for line in lines if line.startswith("::warning ")]
    assert len(doubts) == 2
    assert doubts[0].startswith("::warning file=test_it.py,line=")


ON_GITHUB = {"GITHUB_ACTIONS": "true"}


@pytest.mark.parametrize(
    ("words", "env", "told"),
    [
        (("-n", "1"), ON_GITHUB, 1),
        ((), {}, 0),
        (("--gradwitness-github",), {}, 1),
        (("--gradwitness-github=never",), ON_GITHUB, 0),
    ],
)
def test_when_github_is_told(
    folder: Path, words: tuple[str, ...], env: dict[str, str], told: int
) -> None:
    done = run(folder, *words, env=env)
    assert annotated(done.stdout) == ["::error title=gradwitness%3A step::why"] * told, done.stdout


def test_junit_holds_the_verdict_and_the_first_wrong_step(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    cases = {
        case.get("name"): {p.get("name"): p.get("value", "") for p in case.iter("property")}
        for case in ET.parse(folder / "out.xml").iter("testcase")  # noqa: S314 (pytest made it)
    }
    for test in ("test_watch", "test_assert", "test_gradcheck", "test_other_failure"):
        found = cases[test]
        assert found["gradwitness_verdict"] == "DISAGREES"
        assert re.fullmatch(
            rf"DoubleBackward #\d, gradient of x \(input 0\) at test_it\.py:{LINE}",
            found["gradwitness_first"],
        )
    assert cases["test_right"] == {"gradwitness_verdict": "AGREES"}
    assert cases["test_doubtful"]["gradwitness_verdict"] == "INCONCLUSIVE"
    assert cases["test_without"] == {}


DEEP = """
import torch

def test_depth(witness):
    w = torch.ones(3, requires_grad=True)
    with witness.watch(names={"w": w}) as made, witness.watch(depth="full") as other:
        pass
    print("depths:", made.report.depth, other.report.depth)
    witness.watched.clear()
"""


def test_the_depth_of_all_tests_is_chosen_once(tmp_path: Path) -> None:
    (tmp_path / "test_deep.py").write_text(DEEP)
    assert "depths: fast full" in run(tmp_path, "-s", "--gradwitness-depth", "fast").stdout
    assert "depths: full full" in run(tmp_path, "-s").stdout
    assert run(tmp_path, "--gradwitness-depth", "quick").returncode == 4


IDLE = """
import atexit, sys

LOADED = "torch", "numpy", "rich", "gradwitness"

def pytest_unconfigure():
    print("loaded:", [name for name in LOADED if name in sys.modules])
"""


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(IDLE)
    (tmp_path / "test_it.py").write_text("def test(): pass\ndef test_bad(): assert 0\n")
    done = run(tmp_path, "--gradwitness-report=out", env={"GITHUB_ACTIONS": "true"})
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "loaded: []" in done.stdout
    assert not (tmp_path / "out").exists()


def test_it_is_announced_to_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {
        "pytest_gradwitness": "pytest_gradwitness"
    }
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert "src/pytest_gradwitness" in packages
    assert (ROOT / "src" / "pytest_gradwitness" / "__init__.py").is_file()
