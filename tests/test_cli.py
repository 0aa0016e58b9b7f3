"""The commands `check`, `graph` and `rules`; `run` has its tests with the experiment."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import gradwitness
from experiment.invoke import cli
from gradwitness.report.console import console
from gradwitness.report.tables.terminal import styled

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import torch

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]

class Half(Square):
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]

def start():
    torch.manual_seed(0)
    return torch.randn(3, requires_grad=True)

def right():
    Square.apply(start()).sum().backward()

def wrong():
    Half.apply(start()).sum().backward()

def doubtful():
    torch.conv_tbc(start().view(3, 1, 1), torch.ones(1, 1, 1), torch.zeros(1)).sum().backward()

def crash():
    raise ValueError("on its own")

def wants_more(x):
    pass
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(PROGRAM)
    return path


LARGE = """
import torch

torch.manual_seed(0)
layers = [layer for _ in range(40) for layer in (torch.nn.Linear(32, 32), torch.nn.ReLU())]
model = torch.nn.Sequential(*layers)

def step():
    model.zero_grad()
    model(torch.ones(2000, 32)).square().mean().backward()
"""


def test_a_recording_and_a_derivation_of_a_large_program_have_all_its_numbers(
    tmp_path: Path,
) -> None:
    # What a watched block keeps by default, some 16 MiB, is not enough for them.
    program = tmp_path / "large.py"
    program.write_text(LARGE)
    freed = cli("check", f"{program}:step")
    assert "the recording cannot be saved" in " ".join(freed.out.split())
    saved = cli("check", f"{program}:step", "--save", tmp_path / "large.npz")
    assert (saved.code, (tmp_path / "large.npz").is_file()) == (0, True)
    derived = cli("check", f"{program}:step", "--explain", "78.bias[3]")
    assert "78.bias[3]: torch has" in derived.out
    assert "not recorded" not in derived.out


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("right", 0, "verdict   AGREES"),
        ("wrong", 1, "first wrong step: HalfBackward #1, gradient of x (input 0)"),
        ("doubtful", 3, "no rule for aten.conv_tbc.default"),
    ],
)
def test_check_a_training_step(program: Path, function: str, code: int, said: str) -> None:
    result = cli("check", f"{program}:{function}")
    assert result.code == code
    assert said in result.out
    record = json.loads(cli("check", f"{program}:{function}", "--json").out)
    assert record["exit_code"] == code


def test_check_places_the_fault(program: Path) -> None:
    # The line that the backward returns; 0.5 g of 2 x g is off by 1.
    line = next(k for k, text in enumerate(PROGRAM.splitlines(), 1) if "return g" in text)
    out = cli("check", f"{program}:wrong").out
    assert f"wrong in Half.backward, train.py:{line} (called from train.py:" in out
    assert "extent   3 of 3 elements" in out


def test_check_saves_in_every_form_and_reads_the_tape_back(program: Path, tmp_path: Path) -> None:
    endings = ("txt", "json", "svg", "dot", "pdf", "png", "npz")
    words = [word for e in endings for word in ("--save", f"made.{e}")]
    first = cli("check", f"{program}:wrong", *words)
    assert first.code == 1
    assert {path.suffix[1:] for path in tmp_path.glob("made.*")} == set(endings)
    again = cli("check", tmp_path / "made.npz")
    assert again.code == 1
    table = first.out.partition("step      took")[0]
    # A recording holds no functions: neither their slopes nor their text are known.
    assert again.out.partition("\n\n")[0] == table.partition("\n\n")[0]
    assert "cause    missing factor 2" in again.out
    assert (tmp_path / "made.txt").read_text() in table.replace(" \n", "\n") + "\n"


def test_check_explains(program: Path) -> None:
    assert "BACKWARD (pass 1)" in cli("check", f"{program}:wrong", "--explain").out
    result = cli("check", f"{program}:wrong", "--save", "a.txt", "--explain", "nothing")
    assert result.code == 2
    assert result.out == ""
    assert [path.name for path in program.parent.iterdir() if path.suffix == ".txt"] == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("absent.py:step", "absent.py: No such file or directory (expected FILE.py:FUNCTION)"),
        ("train.py:absent", "has no function 'absent'; it has: Square, Half, start, right"),
        ("train.py", "nor a recording (.npz); its functions: start, right, wrong"),
        ("absent.npz", "cannot read absent.npz: No such file or directory"),
    ],
)
def test_check_of_what_cannot_be_checked(program: Path, target: str, message: str) -> None:
    result = cli("check", target, "--save", "made.txt")
    assert result.code == 2
    assert message in result.err
    assert not (program.parent / "made.txt").exists()


def test_a_crash_of_the_program_shows_where(program: Path) -> None:
    err = cli("check", f"{program}:crash").err
    assert 'raise ValueError("on its own")' in err
    assert "ValueError: on its own" in err


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("raise ValueError('on its own')", 2, "train.py:cut raised an exception; what ran before"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("raise SystemExit(0)", 2, "train.py:cut called sys.exit(0); what ran before"),
    ],
)
def test_a_step_that_is_cut_short_is_saved_and_shown(
    program: Path, ending: str, code: int, said: str
) -> None:
    program.write_text(f"{PROGRAM}\n\ndef cut():\n    right()\n    {ending}\n")
    words = [word for e in ("txt", "json", "npz") for word in ("--save", f"made.{e}")]
    result = cli("check", f"{program}:cut", "--json", *words)
    assert result.code == code
    assert said in result.err
    assert ("Traceback" in result.err) is ("ValueError" in ending)
    record = json.loads(result.out)
    assert record["verdict"] == "INCONCLUSIVE"
    # What is saved, printed and returned agree.
    assert said in record["error"]["message"]
    assert record["exit_code"] == code
    assert record == json.loads((program.parent / "made.json").read_text())
    assert "the step ended in" in record["steps"][-1]["reason"]
    again = cli("check", program.parent / "made.npz")
    assert again.code == 3
    assert "the step ended in" in again.out
    assert "the step ended in" in (program.parent / "made.txt").read_text()


def test_files_land_where_the_command_was_given(program: Path) -> None:
    program.write_text(f"{PROGRAM}\n\ndef moved():\n    os.chdir('elsewhere')\n    right()\n")
    program.write_text(f"import os\n{program.read_text()}")
    (program.parent / "elsewhere").mkdir()
    assert cli("check", f"{program}:moved", "--save", "made.txt").code == 0
    assert (program.parent / "made.txt").exists()
    assert list((program.parent / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("definition", ["def step():\n    yield", "async def step():\n    pass"])
def test_a_step_that_runs_nothing_when_it_is_called(program: Path, definition: str) -> None:
    program.write_text(f"{definition}\n")
    result = cli("check", f"{program}:step")
    assert result.code == 2
    assert "train.py:step yields or awaits, so that calling it runs nothing" in result.err


def test_a_step_that_takes_arguments(program: Path) -> None:
    program.write_text("def step(x, /, y, *rest, z, w=1, **more):\n    pass\n")
    result = cli("check", f"{program}:step")
    assert result.code == 2
    assert "train.py:step takes arguments (x, y, z): name a function without any" in result.err
    program.write_text("def step(*rest, w=1, **more):\n    pass\n")
    assert "takes arguments" not in cli("check", f"{program}:step").err


@pytest.mark.parametrize("code", ["0", "1", "3", "", "'so'"])
@pytest.mark.parametrize("words", [(), ("--probe",)])
def test_an_exit_code_of_the_program_is_no_verdict(
    program: Path, code: str, words: tuple[str, ...]
) -> None:
    program.write_text(f"{PROGRAM}\n\ndef leave():\n    right()\n    raise SystemExit({code})\n")
    result = cli("check", f"{program}:leave", *words)
    assert result.code == 2
    assert f"train.py:leave called sys.exit({code or None})" in result.err
    # What ran before is told; a probe that did not end has nothing to tell.
    assert ("verdict   INCONCLUSIVE" in result.out) is not bool(words)


def test_a_program_that_leaves_when_it_is_read(program: Path) -> None:
    program.write_text("raise SystemExit(0)\n")
    result = cli("check", f"{program}:step")
    assert result.code == 2
    assert "called sys.exit(0); nothing was judged" in result.err


@pytest.mark.parametrize(
    "options", [[], ["--depth", "fast"], ["--rerun", "step", "--digits", "3.0"], ["--probe"]]
)
def test_the_page_names_the_options_that_the_verdict_rests_on(
    program: Path, tmp_path: Path, options: list[str]
) -> None:
    cli("check", f"{program}:right", *options, "--save", "made.html")
    command = shlex.join(["gradwitness", "check", f"{program}:right", *options])
    assert f"{command}<" in (tmp_path / "made.html").read_text(encoding="utf-8")


def test_an_unknown_ending(program: Path) -> None:
    result = cli("check", f"{program}:right", "--save", "made.gif")
    assert result.code == 2
    assert (
        "made.gif: unsupported extension '.gif'; use .txt, .json, .sarif, .html, .svg, .dot"
        in result.err
    )


@pytest.mark.parametrize("ending", ["svg", "dot", "pdf", "png"])
def test_graph_of_a_preset(tmp_path: Path, ending: str) -> None:
    result = cli("graph", "--preset", "sigmoid", "-o", f"g.{ending}")
    assert result.code == 0
    assert result.out.rstrip().endswith(f"AGREES: g.{ending}")
    assert (tmp_path / f"g.{ending}").stat().st_size > 500


def test_graph_of_a_program_and_of_a_tape(program: Path, tmp_path: Path) -> None:
    cli("check", f"{program}:wrong", "--save", "t.npz")
    for target in (f"{program}:wrong", tmp_path / "t.npz"):
        result = cli("graph", target, "--out", "g.dot")
        assert result.code == 1
        assert "HalfBackward #1" in (tmp_path / "g.dot").read_text()


def test_graph_of_what_has_none(program: Path, tmp_path: Path) -> None:
    program.write_text("def step():\n    pass\n")
    result = cli("graph", "train.py:step", "-o", "g.svg")
    assert result.code == 2
    assert "train.py:step has no graph to draw, since nothing ran backward in it" in result.err
    assert not (tmp_path / "g.svg").exists()


def test_graph_with_an_unknown_ending(tmp_path: Path) -> None:
    result = cli("graph", "--preset", "sigmoid", "-o", "g.gif")
    assert result.code == 2
    assert "g.gif: unsupported extension '.gif'; use .svg, .dot, .pdf, .png" in result.err
    assert list(tmp_path.iterdir()) == []


def test_all_rules() -> None:
    result = cli("rules")
    assert result.code == 0
    assert "aten.addmm" in result.out
    assert "AccumulateGrad" in result.out


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("TBackward0", ["aten.t", "dx = g.T", "TBackward0 is the transpose's backward"]),
        ("addmm", ["aten.addmm", "dA = alpha * (g @ B.T)", "db = beta * g"]),
        ("aten.addmm.default", ["aten.addmm"]),
        ("ADDMMBACKWARD0", ["aten.addmm"]),
        ("AccumulateGrad", ["AccumulateGrad adds the arriving gradient to `.grad`"]),
    ],
)
def test_one_rule(name: str, shown: list[str]) -> None:
    result = cli("rules", name)
    assert result.code == 0
    for piece in shown:
        assert piece in result.out


def test_no_such_rule() -> None:
    result = cli("rules", "addmmm")
    assert result.code == 2
    assert re.search(r"there is no rule for 'addmmm'; did you mean .*aten\.addmm", result.err)
    assert cli("rules", "qqqq").code == 2


def test_version_and_help() -> None:
    assert cli("--version").out == f"gradwitness {gradwitness.__version__}\n"
    for words in ([], ["--help"], ["run", "--help"], ["check", "--help"]):
        shown = cli(*words)
        assert "Usage: gradwitness" in shown.out + shown.err


def environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    return kept | changes


def test_a_process_ends_with_the_verdict(program: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", "from gradwitness.cli import main; main()"]
    done = subprocess.run(  # noqa: S603
        [*words, "check", f"{program}:wrong"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert "HalfBackward #1" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), ("", True)])
def test_colour_on_a_terminal_only_and_not_with_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    console().print(styled(gradwitness.Verdict.AGREES))
    assert ("\x1b[32m" in shown.getvalue()) is coloured


def test_the_text_of_a_program_s_error_cannot_act(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text('def step():\n    raise ValueError("bad\\n ::error::x \\x1b[2J")\n')
    result = cli("check", f"{path}:step")
    assert result.code == 2
    assert "\n \\::error::x \\x1b[2J" in result.err
    # Nor is it led in by a line of ours.
    assert result.err.count('File "') == 1
