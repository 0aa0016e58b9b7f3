"""The whole derivation of a network whose numbers are worked out by hand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import gradwitness as gw
from capture.handmade import tape
from capture.programs import leaf
from capture.tiny import GRADIENTS, network
from gradwitness.capture import record
from gradwitness.report.explain import explain, shortened

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

FORWARD = """
[0]
  W1^T = transpose(W1)
       = [2 -1]^T
       = [2 -1]
  x1 = x W1^T + b1
     = [0.5] [2 -1] + [0.5 0.25]
     = [1.5 -0.25]

[1]
  W2^T = transpose(W2)
       = [1 2 3 -1]^T
       = [1 3 2 -1]
  x2 = x1 W2^T + b2
     = [1.5 -0.25] [1 3 2 -1] + [0 -8]
     = [1 -3.25]

[2]
  x3 = where(x2 <= 0, 0, x2)
     = where([1 -3.25] <= 0, 0, [1 -3.25])
     = [1 0]

[3]
  W3^T = transpose(W3)
       = [3 4]^T
       = [3 4]
  x4 = x3 W3^T + b3
     = [1 0] [3 4] + [-1]
     = [2]
"""


def test_the_numbers_are_those_worked_out_by_hand() -> None:
    recorded, report = network()
    assert report.verdict is gw.Verdict.AGREES
    for row in report.rows:
        assert row.value is not None
        assert np.array_equal(
            np.array(recorded.values[row.value].array), np.array(GRADIENTS[row.name])
        )


def test_forward_in_symbols_and_numbers() -> None:
    text = explain(*network())
    assert "\nFORWARD\n" + FORWARD in text
    # W, b, x and a number, and repeat(g, x), which a sum sends back, are told before.
    names, *said, empty = text[: text.index("FORWARD")].splitlines()
    assert (names, empty) == ("NAMES", "")
    assert [line.split(":")[0].strip() for line in said] == [
        "W, b",
        "x and a number",
        "repeat(g, x)",
    ]
    assert "  L = sum(x6)\n    = sum([1])\n    = 1\n" in text


@pytest.mark.parametrize(
    "step",
    [
        "  dx5 = g * (2 * x5)\n    torch: [2]   [AGREES, 0 x bound]\n",
        "  db3 = g\n    torch: [2]   [AGREES, 0 x bound]\n",
        "  dx3 = g W3\n    torch: [6 8]   [AGREES, 0 x bound]\n",
        "  dW3^T = x3^T g\n    torch: [2 0]   [AGREES, 0 x bound]\n",
        "  g = [6 8]\n  dx2 = where(x3 <= 0, 0, g)\n    torch: [6 0]   [AGREES, 0 x bound]\n",
        "  dx1 = g W2\n    torch: [6 12]   [AGREES, 0 x bound]\n",
        "  dW1 = g^T\n    torch: [3 6]   [AGREES, 0 x bound]\n",
        "  g = [3 6]\n  W1.grad += g\n",
    ],
)
def test_backward_in_symbols_and_numbers(step: str) -> None:
    assert step in explain(*network())


def test_names_that_a_mean_of_data_needs() -> None:
    a, data = leaf(2), torch.tensor([1.0, 2.0])
    with record() as recorder:
        torch.nn.functional.mse_loss(a * data, data).backward()  # type: ignore[no-untyped-call]
    text = explain(recorder.tape, gw.judge(recorder.tape))
    legend, _, derivation = text.partition("FORWARD")
    (constant,) = set(re.findall(r"\bc\d+\b", derivation))
    assert f"  L = mean((x1 - {constant})^2)\n" in derivation
    assert f"  dx1 = 2 / n * (x1 - {constant}) * g\n" in derivation
    assert "reduction" not in text
    for said in ("  c and a number: ", "  p and a number: ", "  n: the number of terms "):
        assert said in legend


def test_where_backward_starts(snapshot: SnapshotAssertion) -> None:
    a = leaf(2)
    with record() as recorder:
        (a * 3).backward(torch.tensor([0.5, 4.0]))
    for text in (explain(*network()), explain(recorder.tape, gw.judge(recorder.tape))):
        (start,) = [line for line in text.splitlines() if line.startswith("g is ")]
        assert start == snapshot


def test_each_node_is_met_once_and_defined() -> None:
    recorded, report = network()
    lines = explain(recorded, report).splitlines()
    for node in recorded.nodes:
        (line,) = [line for line in lines if line.startswith(f"#{node.id} ")]
        assert line.startswith(f"#{node.id} {node.name} ")
        assert len(line) > len(f"#{node.id} {node.name} ") + 20


def test_a_wrong_step_is_marked() -> None:
    wrong = tape("d6.1")
    text = explain(wrong, gw.judge(wrong))
    assert text.count("DISAGREES") == 1
    # dw = x g = [1 5, 2 6, 3 7], the first of them off by 100.
    assert "  dw = g * x\n    torch: [105 12 21]   [DISAGREES" in text


def test_long_arrays_are_shortened() -> None:
    assert shortened(np.arange(4.0)) == "[0 1 2 3]"
    assert shortened(np.arange(6.0).reshape(2, 3)) == "[0 1 2 3 ... ](2x3)"
    assert shortened(np.array(0.1234567)) == "0.123457"
    assert shortened(np.arange(6), most=1) == "[0 ... ](6)"
    assert shortened(np.array([1 + 2j])) == "[1+2j]"
