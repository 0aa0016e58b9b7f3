"""One number of one gradient, step by step back to the result: by hand for a small network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.handmade import tape
from capture.programs import leaf, weighted
from capture.tiny import GRADIENTS, network
from gradwitness.capture import record
from gradwitness.report.trace import trace

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

WHOLE = """0.weight[1,0]: torch has 6
the whole gradient: AGREES, at worst 0 x bound

 1  #13 TBackward0 in 0: dW1 = g^T
    dW1[1,0] = g[0,1] (6)
             = 6   torch sent 6

 2  #10 AddmmBackward0 in 0: dW1^T = x^T g
    dW1^T[0,1] = 0.5 * g[0,1] (12)
               = 6   torch sent 6

 3  #7 AddmmBackward0 in 1: dx1 = g W2
    dx1[0,1] = W2^T[1,0] (2) * g[0,0] (6) + W2^T[1,1] (-1) * g[0,1] (0)
             = 12   torch sent 12
    followed: the largest term, g[0,0]

 4  #5 ReluBackward0 in 2: dx2 = where(x3 <= 0, 0, g)
    dx2[0,0] = g[0,0] (6)
             = 6   torch sent 6

 5  #3 AddmmBackward0 in 3: dx3 = g W3
    dx3[0,0] = W3^T[0,0] (3) * g[0,0] (2)
             = 6   torch sent 6

 6  #2 SubBackward0: dx4 = g
    dx4[0,0] = g[0,0] (2)
             = 2   torch sent 2

 7  #1 PowBackward0: dx5 = g * (2 * x5)
    dx5[0,0] = 2 * g[0,0] (1)
             = 2   torch sent 2

 8  #0 SumBackward0: dx6 = repeat(g, x6)
    dx6[0,0] = g (1)
             = 1   torch sent 1

L is the result: its gradient is 1. The chain ends here.
"""


def test_one_entry_by_hand() -> None:
    assert trace(*network(), "0.weight[1,0]") == WHOLE


@pytest.mark.parametrize("name", GRADIENTS)
def test_every_entry_starts_with_its_number(name: str) -> None:
    expected = np.array(GRADIENTS[name])
    for index in np.ndindex(expected.shape):
        subscript = ",".join(map(str, index))
        text = trace(*network(), f"{name}[{subscript}]")
        start, number = text.splitlines()[0].split(": torch has ")
        assert start == f"{name}[{subscript}]"
        assert float(number) == expected[index]


def test_a_unit_that_did_not_fire_ends_the_chain(snapshot: SnapshotAssertion) -> None:
    text = trace(*network(), "1.weight[1,0]")
    assert text == snapshot


def test_the_sums_add_up() -> None:
    for target in ("0.weight[0,0]", "1.weight[0,1]", "3.weight[0,0]", "0.bias[1]"):
        sums = re.findall(r"= (\S+)   torch sent (\S+)", trace(*network(), target))
        assert len(sums) >= 4
        assert all(float(a) == float(b) for a, b in sums)


def test_gradients_that_meet() -> None:
    # x[0] gets 1 * 5 past the product and 2 * 5 through it; the larger one is followed.
    right = tape()
    text = trace(right, gw.judge(right), "x[0]")
    assert "5 + 10\n" in text
    assert "from #6 MulBackward0" in text
    # The 2 gets no name: w[0] and y[0] both equal it.
    assert "    dx[0] = 2 * g[0] (5)\n          = 10   torch sent 10\n" in text


def test_a_wrong_step_is_marked() -> None:
    wrong = tape("d6.1", 1)
    text = trace(wrong, gw.judge(wrong), "w[1]")
    # x[1] g[1] = 2 * 6, and 100 too much.
    assert "= 12   torch sent 112   <- DISAGREES" in text
    assert text.count("DISAGREES") == 2


def test_gradients_that_share_a_name_are_told_apart() -> None:
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    x = torch.tensor([[3.0, 5.0]])
    with record() as recorder:
        torch.autograd.backward((first(x) + 2 * second(x)).sum())
    report = gw.judge(recorder.tape)
    for nr, number in ((1, 5), (2, 10)):
        text = trace(recorder.tape, report, f"weight#{nr}[0,1]")
        assert text.startswith(f"weight[0,1]: torch has {number}\n")
    with pytest.raises(gw.InputError, match="in the order of the report: weight#1, weight#2"):
        trace(recorder.tape, report, "weight[0,1]")


def test_a_given_gradient_at_the_root(snapshot: SnapshotAssertion) -> None:
    a = leaf(2)
    with record(names={"a": a}) as recorder:
        (a * 3).backward(torch.tensor([0.5, 4.0]))
    text = trace(recorder.tape, gw.judge(recorder.tape), "a[1]")
    assert text == snapshot


def test_a_gradient_that_was_asked_for_at_an_inner_value(snapshot: SnapshotAssertion) -> None:
    a = leaf(2)
    h = a * 2
    with record(names={"h": h}) as recorder:
        (g,) = torch.autograd.grad((h * torch.tensor([3.0, 5.0])).sum(), h)
    text = trace(recorder.tape, gw.judge(recorder.tape), "h[1]")
    assert g.tolist() == [3.0, 5.0]
    assert text == snapshot


def test_many_terms_are_summed_up() -> None:
    torch.manual_seed(0)
    x, w = leaf(1, 2), torch.randn(2, 9)
    with record(names={"x": x}) as recorder:
        weighted(x @ w).backward()
    text = trace(recorder.tape, gw.judge(recorder.tape), "x[0,0]")
    assert "+ 5 smaller terms (" in text


@pytest.mark.parametrize(
    "target",
    [
        "4.weight[0,0]",
        "0.weight",
        "0.weight[2,0]",
        "0.weight[0]",
        "0.weight[0,0,0]",
        "0.weight[1 2,0]",
        "0.weight[-1,0]",
        "",
    ],
)
def test_a_target_that_is_none(target: str, snapshot: SnapshotAssertion) -> None:
    with pytest.raises(gw.InputError) as error:
        trace(*network(), target)
    assert str(error.value) == snapshot
