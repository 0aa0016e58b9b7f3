"""A step that may run again as a whole: the slopes at its leaves decide what is in question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from experiment.invoke import cli

if TYPE_CHECKING:
    from pathlib import Path

# z = tanh(z) / 2 + w x by 60 iterations without gradients, and one with. In the hook,
# dz/d(w x) = 1 / (1 - (1 - tanh(z)^2) / 2), times a factor.
EQUILIBRIUM = """
import math

import torch

w = torch.nn.Parameter(torch.linspace(-1, 1.2, 6))
x = torch.linspace(0.5, 1, 6)
optimizer = torch.optim.SGD([w], lr=0.1)
# Of which element 3 is kept.
torch.manual_seed(1)
keep = torch.nn.Dropout(0.3)

def solved(a):
    with torch.no_grad():
        z = a
        for _ in range(60):
            z = torch.tanh(z) / 2 + a
    return z

def by_hand(a):
    z = a
    for _ in range(60):
        z = math.tanh(z) / 2 + a
    return z

def step():
    optimizer.zero_grad()
    z = SOLVED
    z = torch.tanh(z) / 2 + w * x
    slope = (1 - torch.tanh(z.detach()) ** 2) / 2
    z.register_hook(lambda g: FACTOR * g / (1 - slope))
    keep(z).square().sum().backward()
    optimizer.step()
"""

# In Python's numbers: the record shows nothing of it.
ELSEWHERE = EQUILIBRIUM.replace("SOLVED", "torch.tensor(list(map(by_hand, (w * x).tolist())))")
EQUILIBRIUM = EQUILIBRIUM.replace("SOLVED", "solved(w * x)")

# w^2, with a gradient that is off by a factor.
OWN = """
import torch

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    def backward(ctx, g):
        return FACTOR * 2 * g * ctx.saved_tensors[0]

w = torch.nn.Parameter(torch.linspace(-1, 1.2, 6))

def step():
    Square.apply(w * 1).sum().backward()
"""


def checked(program: str, factor: str, path: Path, *options: str) -> tuple[int, str]:
    (path / "train.py").write_text(program.replace("FACTOR", factor))
    done = cli("check", f"{path / 'train.py'}:step", *options)
    return done.code, done.out


@pytest.mark.parametrize("program", [EQUILIBRIUM, ELSEWHERE], ids=["recorded", "elsewhere"])
@pytest.mark.parametrize(("factor", "code"), [("1.0", 0), ("-1.0", 1), ("0.0", 1), ("1.01", 1)])
def test_a_hook_is_judged_by_what_the_leaves_receive(
    factor: str, code: int, program: str, tmp_path: Path
) -> None:
    assert checked(program, factor, tmp_path)[0] == 3
    found, said = checked(program, factor, tmp_path, "--rerun", "step")
    assert found == code, said
    assert ("right as a whole" in said) is (code == 0)


def test_one_wrong_element_is_found(tmp_path: Path) -> None:
    one = "torch.tensor([1, 1, 1, 1.05, 1, 1])"
    assert checked(EQUILIBRIUM, one, tmp_path, "--rerun", "step")[0] == 1


@pytest.mark.parametrize("factor", ["2", "1.001", "-1"])
def test_a_wrong_function_stays_wrong(factor: str, tmp_path: Path) -> None:
    found, said = checked(OWN, factor, tmp_path, "--rerun", "step")
    assert found == 1
    assert "first wrong step: SquareBackward" in said


@pytest.mark.parametrize("factor", ["1.0", "1.01"])
def test_probes_leave_it_at_that(factor: str, tmp_path: Path) -> None:
    code = checked(EQUILIBRIUM, factor, tmp_path, "--rerun", "step", "--probe")[0]
    assert code == (1 if factor == "1.01" else 3) or (factor == "1.0" and code == 0)


def test_a_step_that_cannot_run_in_float64_stays_in_doubt(tmp_path: Path) -> None:
    program = EQUILIBRIUM.replace("keep(z)", "keep(z.to(torch.bfloat16).float())")
    assert checked(program, "1.0", tmp_path, "--rerun", "step")[0] == 3


def test_what_fails_says_how_to_have_it_judged(tmp_path: Path) -> None:
    program = EQUILIBRIUM + "    raise ValueError('late')\n"
    (tmp_path / "train.py").write_text(program.replace("FACTOR", "1.0"))
    done = cli("check", f"{tmp_path / 'train.py'}:step", "--rerun", "step")
    assert done.code == 2
    assert "without --rerun step, what ran before that is judged" in done.err
