"""``--digits``: what a command fails for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from experiment.invoke import cli

if TYPE_CHECKING:
    from pathlib import Path

# x^3, whose derivative is off by 2e-11: 10.7 digits are right.
PROGRAM = """
import torch

class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x
    @staticmethod
    def backward(ctx, g):
        return g * 3 * ctx.saved_tensors[0] ** 2 * (1 + 2e-11)

def step():
    x = torch.tensor([0.5, -1.25, 2.0], dtype=torch.float64, requires_grad=True)
    Cube.apply(x).sum().backward()
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    (tmp_path / "train.py").write_text(PROGRAM)


@pytest.mark.parametrize("more", [[], ["--probe"]])
def test_check_fails_for_fewer_digits_only(more: list[str]) -> None:
    for digits, code in ((None, 1), (6, 0), (11, 1)):
        given = [] if digits is None else ["--digits", f"{digits}"]
        done = cli("check", "train.py:step", *given, *more)
        assert (digits, done.code) == (digits, code), done.out
        assert "10.7 digits right" in done.out
        met = "DISAGREES" if code else "AGREES"
        assert (f", to {digits} digits {met}" in done.out) is (digits is not None)


def test_json_has_the_exit_code_of_the_command() -> None:
    done = cli("check", "train.py:step", "--digits", "6", "--json")
    record = json.loads(done.out)
    assert (done.code, record["exit_code"], record["verdict"]) == (0, 0, "DISAGREES")
    assert record["required_digits"] == 6


def test_annotations_are_of_what_fails() -> None:
    for digits, errors in (("6", 0), ("11", 1)):
        done = cli("check", "train.py:step", "--digits", digits, "--github")
        assert done.out.count("::error") == errors


@pytest.mark.parametrize("off", [1e-3, 0.0])
def test_claims_are_held_to_the_same(tmp_path: Path, off: float) -> None:
    right = 3 * np.array([0.5, -1.25, 2.0]) ** 2
    np.savez(tmp_path / "a.npz", x=right)
    np.savez(tmp_path / "b.npz", x=right + np.array([0, 0, 12 * off]))
    for digits, code in (("2.9", 0), ("3.1", 1 if off else 0)):
        assert cli("diff", "a.npz", "b.npz", "--digits", digits).code == code
        against = cli("check", "train.py:step", "--claims", "b.npz", "--digits", digits, "--json")
        assert against.code == json.loads(against.out)["exit_code"] == code


@pytest.mark.parametrize("digits", ["0", "0.3"])
def test_less_than_a_digit_is_refused_before_the_program_runs(digits: str) -> None:
    done = cli("check", "absent.py:step", "--digits", digits)
    assert done.code == 2
    said = "would let errors of more than a tenth pass: require 1 or more"
    assert f"digits={digits} {said}" in done.err
