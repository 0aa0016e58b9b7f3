"""Symbols for the values of a tape: W, b, x, L, numbered as one would by hand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import nn

from capture.handmade import tape
from capture.programs import leaf, unruled, weighted
from gradwitness.capture import record
from gradwitness.report.names import Names

if TYPE_CHECKING:
    from gradwitness.tape import Tape


def written(recorded: Tape) -> list[str]:
    names = Names(recorded)
    # Forward calls only, and not the copies that torch keeps for itself.
    return [
        names.equation(call)
        for call in recorded.calls
        if call.node is not None or call.op == "aten.t.default"
    ]


def test_a_dense_network() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    x = torch.randn(4, 2)
    with record(model, names={"x": x}) as recorder:
        (model(x) ** 2).mean().backward()
    assert written(recorder.tape) == [
        "W1^T = transpose(W1)",
        "x1 = x W1^T + b1",
        "x2 = where(x1 <= 0, 0, x1)",
        "W2^T = transpose(W2)",
        "x3 = x2 W2^T + b2",
        "x4 = x3^2",
        "L = sum(x4) / count(x4)",
    ]


def test_the_gradients_of_a_layer() -> None:
    layer, x = nn.Linear(2, 3), leaf(4, 2)
    with record(layer, names={"x": x}) as recorder:
        weighted(layer(x)).backward()
    call = next(c for c in recorder.tape.calls if c.op == "aten.addmm.default")
    names = Names(recorder.tape)
    assert names.gradients(call) == [("b", "g"), ("x", "g W"), ("W^T", "x^T g")]


def test_the_handmade_tape() -> None:
    assert written(tape()) == [
        "x1 = x * w",
        "x2 = x1 + x",
        "x3 = x2 * c3",
        "x4 = sum(x3)",
        "x5 = b * c3",
        "x6 = sum(x5)",
        "L = x4 + x6",
    ]


def test_weight_and_bias_share_a_number_and_others_keep_their_names() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(3))
            self.layer = nn.Linear(3, 3)
            self.norm = nn.ParameterDict({"gain": torch.randn(3)})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.layer(x * self.scale) * self.norm["gain"]
            return result

    model = Odd()
    with record(model) as recorder:
        weighted(model(torch.randn(2, 3))).backward()
    names = Names(recorder.tape)
    symbols = {v.name: names.of(v.id) for _, v in recorder.tape.leaves()}
    assert symbols == {
        "scale": "scale",
        "layer.weight": "W1",
        "layer.bias": "b1",
        "norm.gain": "P2.gain",
    }


def test_several_results_are_numbered() -> None:
    a = leaf(2)
    with record(names={"a": a}) as recorder:
        y = a.sin()
        weighted(y).backward(retain_graph=True)
        weighted(y).backward()
    names = Names(recorder.tape)
    roots = [recorder.tape.nodes[s.roots[0][0].node].outputs[0] for s in recorder.tape.sweeps]
    assert [names.of(root) for root in roots] == ["L1", "L2"]


def test_numbers_leaves_and_data_without_a_name() -> None:
    a, data, quarter = leaf(2), torch.randn(2), torch.tensor(0.25)
    with record() as recorder:
        y = a * quarter + data
        y.backward(torch.ones(2))
    # A scalar is printed as a number; p: requires a gradient, c: does not.
    names = Names(recorder.tape)
    ((_, value),) = recorder.tape.leaves()
    p = f"p{value.id}"
    product, total = written(recorder.tape)
    assert product == f"x1 = {p} * 0.25"
    assert re.fullmatch(r"L = x1 \+ c\d+", total)
    assert names.of(value.id) == p
    assert names.of(None) == "nothing"


def test_an_operation_without_a_rule_is_written_as_a_call() -> None:
    a = leaf(3)
    with record(names={"a": a}) as recorder:
        weighted(unruled(a)).backward()
    assert any(re.fullmatch(r"x\d = conv_tbc\(x\d, .*\)", line) for line in written(recorder.tape))


def test_a_detached_value_keeps_its_symbol() -> None:
    a = leaf(3)
    with record(names={"a": a}) as recorder:
        y = a.sin()
        weighted(y * y.detach()).backward()
    assert "x2 = x1 * x1" in written(recorder.tape)
