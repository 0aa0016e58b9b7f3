"""Annotations on GitHub: root causes only, at their lines, with everything escaped."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from experiment.invoke import cli
from gradwitness.report.faults import faults_of, probe_faults
from gradwitness.report.tables.github import SHOWN, annotation, commands
from gradwitness.verdict import Fault

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import torch

class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]

def wrong():
    x = torch.ones(3, requires_grad=True)
    Half.apply(x.exp() * 2).sum().backward()

def doubtful():
    x = torch.ones(3, 1, 1, requires_grad=True)
    torch.conv_tbc(x, torch.ones(1, 1, 1), torch.zeros(1)).sum().backward()
    torch.conv_tbc(x, torch.ones(1, 1, 1), torch.zeros(1)).sum().backward()

def right():
    torch.ones(3, requires_grad=True).sin().sum().backward()
"""
LINE = 11  # of what `backward` returns


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    path = tmp_path / "train.py"
    path.write_text(PROGRAM)
    return path


def fault(number: int = 0, *, verdict: gw.Verdict = gw.Verdict.DISAGREES, line: str = "") -> Fault:
    return Fault(verdict, f"step {number}", "text", line)


def test_everything_is_escaped() -> None:
    line = annotation("error", "a: b, c%\r\n", "one: 50%\ntwo,\x1b", "/x:y/a,b%.py:7")
    assert line == (
        "::error file=/x%3Ay/a%2Cb%25.py,line=7,title=a%3A b%2C c%25\\r\\n::one: 50%25%0Atwo,\\x1b"
    )
    # Nothing that a name holds can begin a command of its own.
    assert "\n" not in annotation("error", "\n::stop-commands::x", "\n::set-env name=x::y")


@pytest.mark.parametrize("line", ["", "nowhere", "file.py:", "file.py:x", ":3"])
def test_no_place_is_invented(line: str) -> None:
    assert annotation("warning", "t", "m", line) == "::warning title=t::m"


def test_paths_begin_at_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "src" / "a.py"
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    assert annotation("error", "t", "m", f"{place}:3").startswith("::error file=src/a.py,line=3,")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "elsewhere"))
    assert f"file={place.as_posix()}," in annotation("error", "t", "m", f"{place}:3")


def test_what_is_more_than_github_shows_is_counted() -> None:
    assert len(commands(map(fault, range(SHOWN)))) == SHOWN
    lines = commands(map(fault, range(SHOWN + 5)))
    assert len(lines) == SHOWN
    assert lines[-1].startswith("::error title=gradwitness%3A more::6 more in the log")


def test_a_fault_is_told_once_and_doubts_are_warnings() -> None:
    doubt = fault(verdict=gw.Verdict.INCONCLUSIVE)
    lines = commands([doubt, fault(), fault(), fault(line="a.py:3"), doubt])
    assert [line.split()[0] for line in lines] == ["::error", "::error", "::warning"]


def test_guilty_steps_only() -> None:
    with gw.watch() as witness:
        x = torch.ones(3, requires_grad=True)
        y = x.exp()
        z = y * 2
        z.register_hook(lambda g: g * 2)  # type: ignore[no-untyped-call]
        z.sum().backward()  # type: ignore[no-untyped-call]
    assert [row.inherited for row in witness.report.rows] == [True]
    (found,) = witness.faults
    assert found.verdict is gw.Verdict.DISAGREES
    assert found.title == witness.report.wrong[0].title
    assert found.text.startswith("DISAGREES  fan-in: ")
    assert re.search(r"test_github\.py:\d+$", found.line)


@pytest.mark.parametrize(
    ("function", "code", "begins"),
    [
        ("wrong", 1, [f"::error file=train.py,line={LINE},title=gradwitness%3A HalfBackward #"]),
        ("doubtful", 3, ["::warning file=train.py,line=19,", "::warning file=train.py,line=20,"]),
        ("right", 0, []),
    ],
)
@pytest.mark.parametrize("more", [(), ("--probe",)])
def test_the_command(
    program: Path, function: str, code: int, begins: list[str], more: tuple[str, ...]
) -> None:
    result = cli("check", f"{program}:{function}", "--github", *more)
    lines = [line for line in result.out.splitlines() if line.startswith("::")]
    assert result.code == code
    assert len(lines) == len(begins)
    for line, begin in zip(lines, begins, strict=True):
        assert line.startswith(begin)
    without = cli("check", f"{program}:{function}", *more)
    assert not [line for line in without.out.splitlines() if line.startswith("::")]


def test_json_stays_alone(program: Path) -> None:
    result = cli("check", f"{program}:wrong", "--github", "--json")
    assert json.loads(result.out)["verdict"] == "DISAGREES"
    assert result.err.startswith("::error file=train.py,")


def test_what_only_a_probe_shows_is_told(program: Path) -> None:
    del program

    class Ones(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * 1

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return torch.ones_like(grads[0])

    def step() -> None:
        out: Any = Ones.apply(torch.ones(3, requires_grad=True))  # type: ignore[no-untyped-call]
        out.sum().backward()

    probed = gw.probe(step, passes=["random"])
    assert faults_of(probed.report, probed.tape) == ()
    (found,) = probe_faults(probed)
    assert found.title.startswith("OnesBackward #")
    assert commands([found])[0].startswith("::error file=")


def test_claims_are_told_by_their_causes() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 3)
    x = torch.randn(4, 3)
    with gw.watch(model, keep=None) as witness:
        model(x).square().sum().backward()
    right = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    wrong = right | {"weight": right["weight"].T}
    with pytest.raises(gw.GradientDisagreement) as caught:
        gw.assert_gradients(wrong, witness)
    (found,) = caught.value.faults
    assert found.title.startswith("weight: ")
    assert "transpose" in found.title + found.text
    missing = {"weight": right["weight"]}
    with pytest.raises(gw.GradientDisagreement) as caught:
        gw.assert_gradients(missing, witness)
    (doubt,) = caught.value.faults
    assert (doubt.verdict, doubt.title) == (gw.Verdict.INCONCLUSIVE, "bias: not claimed")
