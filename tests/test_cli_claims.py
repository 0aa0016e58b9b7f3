"""The commands `check --claims` and `diff`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from experiment.invoke import cli
from gradwitness.files.dat import format_dat

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PROGRAM = """
import torch

def start():
    return torch.tensor([[0.5, -1.25, 2.0], [1.5, 0.75, -0.5]], requires_grad=True)

def passes(count):
    w = start()
    for k in range(count):
        (w * w * (k + 1)).sum().backward()

def step():
    passes(1)

def twice():
    passes(2)
"""
W = np.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.5]])
# The gradient of sum(w^2).
RIGHT = 2 * W


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    (tmp_path / "train.py").write_text(PROGRAM)


def written(path: str, gradient: NDArray[Any], name: str = "value 1") -> str:
    np.savez(path, allow_pickle=False, **{name: gradient.astype(np.float32)})
    return path


def test_right_claims_end_with_0() -> None:
    result = cli("check", "train.py:step", "--claims", written("a.npz", RIGHT))
    assert result.code == 0
    assert result.out.index("steps     forward") < result.out.index("claims    a.npz")
    assert result.out.endswith("claims    1 agree\nverdict   AGREES\n")


def test_wrong_claims_end_with_1_and_say_why() -> None:
    result = cli("check", "train.py:step", "--claims", written("a.npz", -RIGHT))
    assert result.code == 1
    assert "CAUSE" in result.out
    assert "first wrong, in backward order: value 1" in result.out


def test_several_files_are_judged_one_by_one() -> None:
    files = [written("a.npz", RIGHT), written("b.npz", 3 * RIGHT)]
    result = cli("check", "train.py:step", *(word for f in files for word in ("--claims", f)))
    assert result.code == 1
    assert "a.npz  AGREES  1 agree\nb.npz  DISAGREES  1 DISAGREE\n" in result.out


def test_as_json_and_in_files(tmp_path: Path) -> None:
    file = written("a.npz", -RIGHT)
    saved = ("--save", "c.txt", "--save", "c.json", "--save", "c.svg", "--save", "tape.npz")
    result = cli("check", "train.py:step", "--claims", file, "--json", *saved)
    record = json.loads(result.out)
    assert (record["schema"], record["exit_code"], result.code) == ("gradwitness-claims", 1, 1)
    assert record["program"]["verdict"] == "AGREES"
    assert json.loads((tmp_path / "c.json").read_text()) == record
    assert "claims    a.npz" in (tmp_path / "c.txt").read_text()
    assert (tmp_path / "c.svg").exists()
    again = cli("check", "tape.npz", "--claims", file, "--json")
    assert json.loads(again.out)["runs"] == record["runs"]


def test_the_pass_can_be_chosen() -> None:
    file = written("a.npz", 2 * RIGHT)
    result = cli("check", "train.py:twice", "--claims", file)
    assert result.code == 0
    assert "pass 2 of 2" in " ".join(result.out.split())
    assert cli("check", "train.py:twice", "--claims", file, "--pass", "1").code == 1
    result = cli("check", "train.py:twice", "--claims", file, "--pass", "3")
    assert result.code == 2
    assert "no backward pass 3" in result.err


def test_the_format_can_be_chosen() -> None:
    file = written("a.npz", RIGHT * (1 + 1e-3))
    assert cli("check", "train.py:step", "--claims", file).code == 1
    assert cli("check", "train.py:step", "--claims", file, "--dtype", "bfloat16").code == 0
    result = cli("check", "train.py:step", "--claims", file, "--dtype", "int8")
    assert (result.code, "'int8'" in result.err) == (2, True)


def test_what_cannot_be_read_ends_with_2_before_the_program_runs() -> None:
    result = cli("check", "nowhere.py:step", "--claims", "none.npz")
    assert result.code == 2
    assert "cannot read none.npz" in result.err
    assert cli("diff", "none.npz", "none.npz").code == 2


def test_printed_gradients_confirm_as_much_as_they_show(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("value 1: tensor([[1.0, -2.5, 4.0], [3.0, 1.5, -1.0]])\n")
    assert cli("check", "train.py:step", "--claims", "a.txt").code == 0
    (tmp_path / "a.txt").write_text("value 1: tensor([[1.0, -2.5, 4.0], [3.0, 1.4, -1.0]])\n")
    assert cli("check", "train.py:step", "--claims", "a.txt").code == 1


@pytest.mark.parametrize(
    ("factor", "code"), [(1.0, 0), (1 + 1e-5, 3), (1.5, 1)], ids=["same", "between", "wrong"]
)
def test_diff(factor: float, code: int, tmp_path: Path) -> None:
    a = written("a.npz", RIGHT, "w")
    b = np.asarray(RIGHT * factor, np.float32)
    (tmp_path / "b.dat").write_text(format_dat({}, {"w": b}))
    result = cli("diff", a, "b.dat", "--save", "d.txt")
    assert result.code == code
    assert "no program: agreement to 4.8e-07, disagreement beyond 2.4e-04" in result.out
    assert (tmp_path / "d.txt").read_text().split() == result.out.split()
    record = json.loads(cli("diff", a, "b.dat", "--json").out)
    assert (record["exit_code"], record["program"]) == (code, None)
    if code == 3:
        assert "check --claims" in result.out


def test_diff_of_two_arrays_of_different_shapes_names_both(tmp_path: Path) -> None:
    for name, shape in (("mine", (4,)), ("right", (3, 2)), ("wide", (2, 3))):
        np.save(tmp_path / f"{name}.npy", np.ones(shape))
    for name, said in (("mine", "(4,)"), ("wide", "(2, 3)")):
        result = cli("diff", "right.npy", f"{name}.npy")
        assert result.code == 3
        words = " ".join(result.out.split())
        assert f"'{name}' has shape {said}, and right has (3, 2)." in words


def test_diff_of_several_runs_against_one_tells_its_lines_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("w: [1.0, 2.0]\n", encoding="utf-8")
    two.write_text("run 1\nw: [1.0, 2.0]\nrun 2\nw: [1.0, 2.5]\n", encoding="utf-8")
    lines = cli("diff", two, one).out.splitlines()
    assert any(line.startswith("one.txt against two.txt, run 1  AGREES") for line in lines)
    assert any(line.startswith("one.txt against two.txt, run 2  DISAGREES") for line in lines)
    lines = cli("diff", one, two).out.splitlines()
    assert any(line.startswith("two.txt, run 2  DISAGREES") for line in lines)


def test_diff_of_the_experiments_two_files() -> None:
    assert cli("run", "--out", "out").code == 0
    result = cli("diff", "out/torch_autograd.dat", "out/my_autograd.dat")
    assert result.code == 0
    assert "claims    26 agree" in result.out


GRADCHECK = """torch.autograd.gradcheck.GradcheckError: Jacobian mismatch for output 0 with respect
numerical:tensor([[ 2.0000,  0.0000],
        [ 0.0000,  4.0000]], dtype=torch.float64)
analytical:tensor([[ 2.0000,  0.0000],
        [ 0.0000,  {last}]], dtype=torch.float64)
"""


@pytest.mark.parametrize(("last", "code"), [("4.0000", 0), ("8.0000", 1)])
def test_two_names_or_columns_of_one_file(tmp_path: Path, last: str, code: int) -> None:
    column = "".join(f"{x},{x}\n" for x in (0.125, -0.25, 0.375))
    rows = f"numerical,analytical\n{column}4.0000,{last}\n"
    long = "name,index,numerical,analytical\n" + "".join(
        f"w,{n},{row}\n" for n, row in enumerate(rows.splitlines()[1:])
    )
    for name, content in (
        ("a.txt", GRADCHECK.format(last=last)),
        ("b.csv", rows),
        ("c.csv", long),
        ("d.txt", rows.replace(",", " ")),
    ):
        (tmp_path / name).write_text(content)
        result = cli("diff", name, "--names", "numerical", "analytical")
        assert result.code == code, name
        assert f"claims    {name}, analytical\nagainst   {name}, numerical\n" in result.out
    result = cli("diff", "b.csv", "c.csv", "--names", "numerical", "analytical")
    assert result.code == code


@pytest.mark.parametrize(("mine", "code"), [("1.0", 0), ("1.5", 1)])
def test_columns_of_one_file_are_judged_one_by_one(tmp_path: Path, mine: str, code: int) -> None:
    program = (
        PROGRAM
        + """
net = torch.nn.Linear(2, 1)

def of_a_layer():
    net(torch.tensor([[1.0, 2.0]])).sum().backward()
"""
    )
    (tmp_path / "layer.py").write_text(program)
    rows = ["name,index,theirs,mine", f"weight,0,1.0,{mine}", "weight,1,2.0,2.0", "bias,0,1.0,1.0"]
    (tmp_path / "two.csv").write_text("\n".join(rows))
    result = cli("check", "layer.py:of_a_layer", "--claims", "two.csv", "--json")
    assert result.code == code
    told = json.loads(result.out)["runs"]
    assert [run["source"] for run in told] == ["two.csv, theirs", "two.csv, mine"]
    assert [run["verdict"] for run in told] == ["AGREES", "DISAGREES" if code else "AGREES"]


def test_names_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("numerical,analytical\n0.5,0.5\n0.25,0.25\n")
    result = cli("diff", "a.csv", "--names", "numerical", "exact")
    assert (result.code, result.out) == (2, "")
    assert "a.csv: nothing is named 'exact'; it has numerical and analytical" in result.err
    result = cli("diff", "a.csv")
    assert (result.code, result.out) == (2, "")
    assert "name a second source, or two names of the first" in result.err
