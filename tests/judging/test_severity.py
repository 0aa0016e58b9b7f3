"""How far off a disagreement is, and how far off it may be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.functions import apply
from capture.programs import run_back, unruled
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import compare, mismatch, unjudged
from gradwitness.report.record import report_record
from gradwitness.report.tables.terminal import styled

if TYPE_CHECKING:
    from collections.abc import Callable

A, D, I = gw.Verdict.AGREES, gw.Verdict.DISAGREES, gw.Verdict.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("recorded", "expected", "relative"),
    [
        ([1.0, 2.5], [1.0, 2.0], 0.25),  # 0.5 of 2
        ([3.0, 5.0], [3.0, 2.0], 1.0),  # 3 of 3: the largest number need not be the wrong one
        ([5.0, 1.0], [2.0, 1.0], 1.5),
        ([-2.0, -1.0], [2.0, 1.0], 2.0),
        ([0.0, 0.0], [2.0, 1.0], 1.0),
        ([1e-30, 0.0], [0.0, 0.0], math.inf),  # nothing where there should be nothing
        ([math.nan, 1.0], [2.0, 1.0], math.inf),
        ([math.inf, 1.0], [2.0, 1.0], math.inf),
        ([4.0, 2.0**-20], [4.0, 0.0], 2.0**-22),
    ],
)
def test_the_largest_error_over_the_largest_number(
    recorded: list[float], expected: list[float], relative: float
) -> None:
    c = compare(np.array(recorded), np.array(expected), "float64")
    assert (c.verdict, c.relative_error) == (D, relative)
    assert c.right_digits == max(0.0, -math.log10(relative))


def test_what_lies_within_its_bound_is_no_error() -> None:
    bound = np.array([1.0, 0.0])
    expected = Bounded(np.array([8.0, 4.0]), Arithmetic.stepwise("float64"), bound, bound)
    # 0.5 is allowed in the first; the second is off by 0.25 of the largest, 8.
    c = compare(np.array([8.5, 4.25]), expected, "float64")
    assert (c.verdict, c.relative_error) == (D, 0.25 / 8)


def test_an_integer_is_right_or_wrong() -> None:
    c = compare(np.array([1_000_001]), np.array([1_000_000]), "int64")
    assert (c.relative_error, c.right_digits) == (math.inf, 0.0)


def test_a_shape_has_no_digits() -> None:
    c = mismatch("shape", np.ones(3))
    assert (c.right_digits, c.verdict_to(1e-9)) == (0.0, D)


def test_only_a_disagreement_has_a_severity() -> None:
    for c in (unjudged("why"), compare(np.ones(2), np.ones(2), "float64")):
        assert math.isnan(c.relative_error)
        assert math.isnan(c.right_digits)
        assert c.verdict_to(1) is c.verdict


class Cube(torch.autograd.Function):
    """x^3, whose derivative is off by a share that a test chooses."""

    off = 0.0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return None if Cube.off == -1 else grads[0] * 3 * x * x * (1 + Cube.off)


class Leak(torch.autograd.Function):
    """The identity on two numbers, whose gradient leaks from the first into the second."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x * 1

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        (g,) = grads
        return torch.stack([g[0], g[1] + 1e-9 * g[0]])


def cubed(off: float, monkeypatch: pytest.MonkeyPatch) -> gw.Witness:
    monkeypatch.setattr(Cube, "off", off)
    w = torch.tensor([0.5, -1.25, 2.0], dtype=torch.float64, requires_grad=True)
    with gw.watch(names={"w": w}) as witness:
        apply(Cube, w).sum().backward()
    return witness


@pytest.mark.parametrize(("off", "digits"), [(2e-11, 10.7), (1e-4, 4.0), (1.5, 0), (-1, 0)])
def test_a_disagreement_passes_if_so_many_digits_are_right(
    off: float, digits: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = cubed(off, monkeypatch)
    assert witness.verdict is D
    (wrong,) = witness.report.wrong
    # The share itself, but for the rounding of numbers near 12.
    assert wrong.comparison.right_digits == pytest.approx(digits, abs=0.01)
    assert f"{digits:.1f} digits right" in str(witness)
    with pytest.raises(gw.GradientDisagreement, match="DISAGREES"):
        witness.require()
    with pytest.raises(gw.GradientDisagreement, match=f"{digits:.1f} digits right") as error:
        witness.require(digits=max(digits + 0.1, 1))
    assert len(error.value.faults) == 1
    if digits:
        witness.require(digits=digits - 0.1)


def test_a_small_disagreement_is_not_as_red_as_a_large_one() -> None:
    assert styled(D, 1.5).style == styled(D, math.inf).style == "bold red"
    assert styled(D, 2e-11).style == styled(D, 0.01).style != "bold red"
    assert styled(A, 2e-11).style == "green"


def test_the_report_of_a_small_disagreement_still_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    witness = cubed(2e-11, monkeypatch)
    record = report_record(witness.report, witness.tape)
    assert (record["verdict"], record["exit_code"], record["required_digits"]) == (
        "DISAGREES",
        1,
        None,
    )
    step = next(s for s in record["steps"] if s["verdict"] is D)
    assert step["relative_error"] == pytest.approx(2e-11, rel=1e-3)
    assert step["right_digits"] == pytest.approx(-math.log10(2e-11), abs=1e-3)


def leaking(keep: int | None = None) -> gw.Witness:
    w = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([1.0, 1e9], dtype=torch.float64)
    with gw.watch(names={"w": w}, keep=keep) as witness:
        (apply(Leak, w * scale) * torch.tensor([1.0, 0.0], dtype=torch.float64)).sum().backward()
    assert w.grad is not None
    # It should be (1, 0).
    assert w.grad.tolist() == [1.0, 1e9 * 1e-9]
    return witness


def test_an_error_that_grows_on_its_way_counts_with_its_size_there() -> None:
    witness = leaking()
    (wrong,) = witness.report.wrong
    assert wrong.comparison.relative_error == pytest.approx(1e-9)
    with pytest.raises(gw.GradientDisagreement, match="DISAGREES"):
        witness.require(digits=6)


def test_where_its_size_there_is_not_known_it_is_inconclusive() -> None:
    with pytest.raises(gw.GradientDisagreement, match=r"\AINCONCLUSIVE"):
        leaking(keep=0).require(digits=6)


def test_what_could_not_be_judged_never_passes() -> None:
    x = torch.ones(3, requires_grad=True)
    with gw.watch() as witness:
        run_back(unruled(x))
    with pytest.raises(gw.GradientDisagreement, match=r"\AINCONCLUSIVE"):
        witness.require(digits=1)


@pytest.mark.parametrize("digits", [0, -1, 0.3, math.nan])
@pytest.mark.parametrize(
    "judged",
    [lambda: leaking(), lambda: gw.diff({"w": np.ones(2)}, {"w": np.ones(2)})],
    ids=["watched", "claimed"],
)
def test_less_than_a_digit_cannot_be_required(judged: Callable[[], Any], digits: float) -> None:
    with pytest.raises(gw.InputError, match="errors of more than a tenth pass: require 1 or more"):
        judged().require(digits=digits)


def test_claims_pass_likewise() -> None:
    right = np.array([1.0, -2.0, 4.0])
    found = gw.diff({"w": right}, {"w": right + np.array([0, 0, 4e-3])}, dtype="float32")
    assert found.verdict is D
    assert found.runs[0].rows[0].comparison.right_digits == pytest.approx(3)
    found.require(digits=2.9)
    with pytest.raises(
        gw.GradientDisagreement, match=r"DISAGREES, to 3\.1 digits DISAGREES"
    ) as error:
        found.require(digits=3.1)
    assert error.value.faults
    assert not found.requiring(2.9).faults
    assert (found.exit_code, found.requiring(2.9).exit_code) == (1, 0)
