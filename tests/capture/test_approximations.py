"""Derivatives that are meant to be nearly right: damped, or of the continuous problem."""

# Torch prescribes the parameters.
# ruff: noqa: ARG004

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from experiment.invoke import cli
from gradwitness import Verdict
from gradwitness.rules import declarations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _scratch() -> Iterator[None]:
    before = dict(declarations._approximations)
    yield
    declarations._approximations.clear()
    declarations._approximations.update(before)


class Quotient(Function):
    """1 / x, whose derivative is damped: -(x / (x^2 + epsilon))^2 for -1 / x^2."""

    epsilon = 0.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return 1 / x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return -grads[0] * (x / (x * x + Quotient.epsilon)) ** 2


class Solution(Function):
    """The solution of A y = x for A = (4 1; 1 3), by a damped system in the backward."""

    epsilon = 0.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return torch.linalg.solve(torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=x.dtype), x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        damped = torch.eye(2, dtype=g.dtype) * Solution.epsilon
        return torch.linalg.solve(torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=g.dtype) + damped, g)


END, STEPS = 0.15, 6


class Decay(Function):
    """z' = -z from 0 to 0.15, by the midpoint rule, with the derivative of the continuous problem.

    The derivative of the steps is (1 - h + h^2 / 2)^n, that of the problem exp(-0.15).
    """

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, z: Any) -> Any:
        h = END / STEPS
        for _ in range(STEPS):
            z = z - h * (z - h / 2 * z)
        return z

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * math.exp(-END) * Decay.factor


def watched(function: Any, *numbers: float) -> gw.Witness:
    x = torch.tensor(numbers, dtype=torch.float64).requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        (apply(function, x) * torch.tensor([1.0, -0.7], dtype=torch.float64)).sum().backward()
    return witness


def run(declaration: str, function: Any) -> None:
    exec(f"import gradwitness; {declaration}", {function.__name__: function})  # noqa: S102


@pytest.mark.parametrize("function", [Quotient, Solution])
def test_what_slopes_cannot_tell_apart_is_left_open(
    function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Twice 1e-12 / x^2, or about 1e-12 times the inverse: a thousandth of what slopes resolve.
    monkeypatch.setattr(function, "epsilon", 1e-12)
    witness = watched(function, 0.8, 1.3)
    assert witness.verdict is Verdict.INCONCLUSIVE
    (reason,) = witness.report.reasons()
    assert "its slopes in float64 cannot tell which of the two is right" in reason
    # So much is known: eleven digits are those of the recorded forward's derivative.
    witness.require(digits=11)
    with pytest.raises(gw.GradientDisagreement, match="INCONCLUSIVE"):
        witness.require(digits=13)
    run(reason.rpartition(" declare ")[2], function)
    assert watched(function, 0.8, 1.3).verdict is Verdict.AGREES


@pytest.mark.parametrize("epsilon", [1e-7, 1e-3, 0.5])
@pytest.mark.parametrize("function", [Quotient, Solution])
def test_what_they_resolve_is_wrong(
    function: Any, epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function, "epsilon", epsilon)
    assert watched(function, 0.8, 1.3).verdict is Verdict.DISAGREES


@pytest.mark.parametrize("function", [Quotient, Solution])
def test_without_damping_they_agree(function: Any) -> None:
    assert watched(function, 0.8, 1.3).verdict is Verdict.AGREES


def off() -> float:
    """Return how far the two derivatives are apart, of that of the steps."""
    h = END / STEPS
    steps = (1 - h + h * h / 2) ** STEPS
    return abs(math.exp(-END) - steps) / steps


def test_the_derivative_of_the_continuous_problem_can_be_declared() -> None:
    witness = watched(Decay, 0.8, 1.3)
    (wrong,) = witness.report.wrong
    assert wrong.comparison.relative_error == pytest.approx(off(), rel=1e-6)
    assert wrong.comparison.right_digits == pytest.approx(-math.log10(off()), rel=1e-6)
    said = str(witness)
    assert f"{-math.log10(off()):.1f} digits right" in said
    assert "if an approximation of this accuracy is meant:" in said
    # 4 digits are right, 5 are not.
    witness.require(digits=4)
    with pytest.raises(gw.GradientDisagreement):
        witness.require(digits=5)
    (call,) = [line.strip() for line in said.splitlines() if "gradwitness.approximation(" in line]
    run(call, Decay)
    assert watched(Decay, 0.8, 1.3).verdict is Verdict.AGREES


@pytest.mark.parametrize("factor", [1.001, -1.0, 0.0])
def test_one_that_is_wrong_beyond_its_declaration_disagrees(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    gw.approximation(Decay, 2 * off())
    monkeypatch.setattr(Decay, "factor", factor)
    assert watched(Decay, 0.8, 1.3).verdict is Verdict.DISAGREES


@pytest.mark.parametrize("factor", [0.9, 0.0, -1.0])
def test_what_is_wrong_is_no_approximation(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decay, "factor", factor)
    assert "gradwitness.approximation" not in str(watched(Decay, 0.8, 1.3))


class Outside(Quotient):
    """1 / x by NumPy, which no rule sees."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return torch.from_numpy(1 / x.numpy())


def test_the_replay_has_no_digits_behind_a_step_that_only_slopes_refute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Quotient, "epsilon", 1e-3)
    x = torch.tensor([0.8, 1.3], dtype=torch.float64).requires_grad_()
    with gw.watch() as witness:
        apply(Outside, x * 1).sum().backward()
    (row,) = witness.report.rows
    assert (row.verdict, row.inherited) == (Verdict.DISAGREES, True)
    assert math.isnan(row.digits)
    # The step has 2 digits right; how many the gradient has is not known.
    with pytest.raises(gw.GradientDisagreement, match="INCONCLUSIVE"):
        witness.require(digits=2)


@pytest.fixture
def operator() -> Iterator[Any]:
    """Return an operator whose derivative is e^x by (1 + x / 1024)^1024."""

    def remember(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.x = inputs[0]

    library: Any = torch.library.Library("gradwitness_near", "DEF")  # type: ignore[no-untyped-call]
    library.define("exp(Tensor x) -> Tensor")
    library.impl("exp", torch.exp, "CPU")
    torch.library.register_autograd(
        "gradwitness_near::exp",
        lambda ctx, g: g * (1 + ctx.x / 1024) ** 1024,
        setup_context=remember,
        lib=library,
    )
    yield torch.ops.gradwitness_near.exp
    library._destroy()


def test_an_operator_is_declared_by_its_name(operator: Callable[[Any], Any]) -> None:
    # (1 + x/n)^n is short of e^x by x^2 / (2 n): 1e-3 at sqrt(2), and 4e-3 at sqrt(8).
    def run() -> gw.Witness:
        x = torch.tensor([1.0, 8**0.5]).double().requires_grad_()
        with gw.watch(judge="gradients", rerun=True) as witness:
            operator(x).sum().backward()
        return witness

    assert run().verdict is not Verdict.AGREES
    gw.approximation("gradwitness_near::exp", 1e-3)
    assert run().verdict is not Verdict.AGREES
    gw.approximation("gradwitness_near::exp", 1e-2)
    assert run().verdict is Verdict.AGREES


PROGRAM = """
import torch
from capture.test_approximations import Decay

def step():
    z = torch.tensor([0.8, 1.3], dtype=torch.float64, requires_grad=True)
    Decay.apply(z).square().sum().backward()
"""


def test_the_command_is_told_how_many_digits_count_or_finds_the_declaration(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    target = f"{tmp_path / 'train.py'}:step"
    plain = cli("check", target)
    assert plain.code == 1
    assert cli("check", target, "--digits", "4").code == 0
    code = plain.out.partition("is meant:\n")[2].partition("\n\nsteps")[0]
    (tmp_path / "pyproject.toml").write_text('[tool.gradwitness]\ndeclarations = "meant.py"\n')
    (tmp_path / "meant.py").write_text("\n".join(line.strip() for line in code.splitlines()))
    assert cli("check", target).code == 0
