"""Views of the same memory in another format: bits, which carry no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.engine.replay import replay
from judging.looks.test_fast import changed

if TYPE_CHECKING:
    from collections.abc import Callable

# 1.5 in float32 is 0x3fc00000; bfloat16 is its upper half, and the lower one is 0.
FORMATS = {
    torch.int32: [0x3FC00000],
    torch.uint8: [0, 0, 0xC0, 0x3F],
    torch.bfloat16: [0.0, 1.5],
    torch.complex64: [1.5 + 1.5j],
}


def watched(function: Callable[[torch.Tensor], torch.Tensor], depth: str = "full") -> gw.Witness:
    x = torch.full((6, 8), 1.5, requires_grad=True)
    with gw.watch(names={"x": x}, depth=depth, keep=None) as witness:
        torch.autograd.backward((x * function(x)).sum())
    return witness


@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_a_view_in_another_format_shows_the_same_bits(dtype: torch.dtype, depth: str) -> None:
    witness = watched(lambda x: x + (x.detach().view(dtype) != 0).sum(), depth)
    assert witness.verdict is gw.Verdict.AGREES, witness.report.reasons()
    (call,) = (call for call in witness.tape.calls if call.op == "aten.view.dtype")
    value = witness.tape.values[call.outputs[0] or 0]
    assert value.array is not None
    expected = np.resize(np.array(FORMATS[dtype]), value.shape).astype(value.array.dtype)
    assert value.array.nbytes == 6 * 8 * 4
    np.testing.assert_array_equal(value.array, expected)
    wrong: Any = expected.copy()
    wrong[5, 1] = 1
    report = gw.judge(changed(witness.tape, value.id, wrong), depth=depth)
    assert report.verdict is gw.Verdict.DISAGREES


def test_a_replay_does_not_take_bits_for_numbers() -> None:
    # d/dx of x (x + b) is 2 x + b: b, the halves of the bits of 1.5, lies in memory where x does.
    witness = watched(lambda x: x + x.detach().view(torch.bfloat16)[:, :8])
    (row,) = witness.report.rows
    expected = np.tile([3.0, 4.5], (6, 4))
    np.testing.assert_array_equal(replay(witness.tape).gradient(row.sweep, row.node), expected)


class Eightfold(torch.autograd.Function):
    """8 x, by three more in the exponent, of which float32 has 8 bits before 23 others."""

    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return (x.view(torch.int32) + (3 << 23)).view(torch.float32)

    @staticmethod
    def backward(_ctx: Any, *g: torch.Tensor) -> torch.Tensor:
        return 8 * g[0]


@pytest.mark.parametrize("depth", ["full", "fast"])
def test_what_is_computed_with_bits_is_not_refuted(depth: str) -> None:
    witness = watched(Eightfold.apply, depth)
    assert witness.verdict is gw.Verdict.INCONCLUSIVE
    (finding,) = [f for f in witness.report.findings if f.verdict is not gw.Verdict.AGREES]
    assert finding.title.startswith("EightfoldBackward")
    assert finding.comparison.reason.startswith("no rule for aten.view.dtype; ")
