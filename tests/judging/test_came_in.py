"""What becomes of NaN and infinities that came in is open; what is born from numbers is judged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from gradwitness.judging.comparing.came_in import REASON, UNDEFINED
from gradwitness.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

NAN, INF = float("nan"), float("inf")
ONE = torch.ones(())


def attention(x: Any) -> Any:
    torch.manual_seed(1)
    return F.scaled_dot_product_attention(x[None, None], *torch.randn(2, 1, 1, 4, 6))


def moments(x: Any) -> Any:
    return torch.stack(torch.var_mean(x, 1))


@pytest.mark.parametrize("number", [NAN, INF, -INF])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.layer_norm(x, (6,)),
        lambda x: F.group_norm(x, 2),
        moments,
        attention,
        F.softshrink,
        F.hardshrink,
        F.relu6,
        F.hardtanh,
        F.gelu,
    ],
)
def test_what_becomes_of_them_is_not_refuted(function: Callable[[Any], Any], number: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6)
    x[1, 2] = number
    x.requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        y = function(x)
        torch.autograd.backward(y, torch.rand_like(y.detach()))
    assert not witness.report.wrong, str(witness)
    # Nor do they pass, but where both sides say the same.
    if number != number:
        assert witness.verdict is Verdict.INCONCLUSIVE


def judged(function: Callable[[Any], Any], number: float, first: float) -> Any:
    """The verdict on a result whose first element is replaced; the last operand is a number."""
    x = torch.tensor([0.5, -1.0, number], requires_grad=True)
    with gw.watch(names={"x": x}, keep=None) as witness:
        function(x)
    tape = witness.tape
    (output, *_) = tape.calls[0].outputs
    assert output is not None
    array = np.array(tape.values[output].array)
    array[0] = first
    values = [replace(v, array=array) if v.id == output else v for v in tape.values]
    finding = gw.judge(replace(tape, values=values)).findings[0]
    return finding.verdict, finding.comparison.reason


@pytest.mark.parametrize("function", [torch.exp, torch.clone])
@pytest.mark.parametrize("number", [NAN, INF, 2.0])
@pytest.mark.parametrize("wrong", [NAN, INF, 7.0])
def test_what_is_born_from_numbers_is_refuted(function: Any, number: float, wrong: float) -> None:
    # Elementwise: the first element has nothing to do with the last.
    assert judged(function, number, first=wrong)[0] is Verdict.DISAGREES


def test_of_a_sum_it_is_not_known() -> None:
    assert judged(lambda x: x.cumsum(0), NAN, first=NAN) == (Verdict.INCONCLUSIVE, REASON)
    # A rule does not say on which operands an element depends, if it is not elementwise.
    assert judged(lambda x: x.softmax(0), NAN, first=0.25)[0] is Verdict.INCONCLUSIVE
    # NaN where a number is right is refuted all the same if only an infinity came in.
    assert judged(lambda x: x.cumsum(0), INF, first=NAN)[0] is Verdict.DISAGREES


# K0(1/2) (Abramowitz and Stegun, table 9.8), and the lower part of gamma(1/2) up to 1: erf(1).
@pytest.mark.parametrize(
    ("function", "right"),
    [
        (torch.special.modified_bessel_k0, 0.92441907),
        (lambda a: torch.igamma(a, ONE), math.erf(1)),
    ],
)
def test_nan_is_right_where_a_special_function_has_no_value(function: Any, right: float) -> None:
    # Neither is defined at -1.
    assert judged(function, 2.0, first=right) == (Verdict.AGREES, UNDEFINED)
    assert judged(function, 2.0, first=NAN)[0] is Verdict.DISAGREES
    assert judged(function, 2.0, first=right * 1.001)[0] is Verdict.DISAGREES
    assert judged(function, NAN, first=right)[0] is Verdict.INCONCLUSIVE


def test_nan_is_not_accepted_in_silence() -> None:
    x = torch.tensor([1.0, -1.0])
    with gw.watch() as witness:
        torch.special.modified_bessel_k0(x).sum()
    assert [note.kind for note in witness.report.notes] == ["NaN born"]
    function, total = witness.report.findings
    assert function.verdict is Verdict.AGREES
    # What is made of it later is open.
    assert total.verdict is Verdict.INCONCLUSIVE
