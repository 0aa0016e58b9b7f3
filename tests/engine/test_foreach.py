"""Calls on lists of tensors are judged member by member."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.engine.foreach import is_foreach, members
from gradwitness.tape import Call, Ref


def call(op: str, **arguments: object) -> Call:
    return Call(3, op, arguments, (7, 8), writes=("self",))  # type: ignore[arg-type]


def test_lists_are_taken_apart_and_the_rest_holds_for_all() -> None:
    made = call(
        "aten._foreach_addcdiv_.ScalarList",
        self=(Ref(0), Ref(1)),
        tensor1=(Ref(2), Ref(3)),
        tensor2=(Ref(4), Ref(5)),
        scalars=(0.5, 0.25),
    )
    first, second = members(made)
    assert first.base_op == second.base_op == "aten.addcdiv"
    assert first.arguments == {"self": Ref(0), "tensor1": Ref(2), "tensor2": Ref(4), "value": 0.5}
    assert second.arguments["value"] == 0.25
    assert (first.outputs, second.outputs) == ((7,), (8,))
    (one, two) = members(call("aten._foreach_mul_.Tensor", self=(Ref(0), Ref(1)), other=Ref(2)))
    assert one.arguments["other"] == two.arguments["other"] == Ref(2)


@pytest.mark.parametrize("op", ["aten.add_.Tensor", "aten._fused_adam_.default"])
def test_other_calls_are_no_lists(op: str) -> None:
    assert not is_foreach(call(op))


@pytest.mark.parametrize("place", [0, 1])
def test_a_member_that_is_wrong_is_refuted(place: int) -> None:
    with gw.watch(keep=None) as witness:
        torch._foreach_add_([torch.randn(3), torch.randn(2)], [torch.randn(3), torch.randn(2)])
    tape = witness.tape
    (added,) = [c for c in tape.calls if is_foreach(c)]
    number = added.outputs[place]
    assert number is not None
    value = tape.values[number]
    assert value.array is not None
    off = value.array.astype(np.float64) + 1e-3
    values = list(tape.values)
    values[number] = replace(value, array=off.astype(np.float32))
    report = gw.judge(replace(tape, values=tuple(values)))
    assert [(f.call, f.tensor_nr) for f in report.wrong] == [(added.id, place)]
    assert gw.judge(tape).wrong == ()
