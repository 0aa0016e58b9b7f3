"""Convolutions by torch's own kernels, which store partial sums in 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic
from gradwitness.judging.comparing.compare import COARSE
from gradwitness.judging.gradients.lost import LOST
from gradwitness.rules.layers.convolution import convolution

if TYPE_CHECKING:
    from collections.abc import Iterator

# Shapes of input and kernel, and how it goes: stride, padding, dilation, transposed, groups.
WAYS: list[tuple[tuple[int, ...], tuple[int, ...], tuple[Any, ...]]] = [
    ((3, 4, 9), (6, 4, 3), (1, 1, 1, False, 1)),
    ((3, 4, 9, 8), (6, 2, 3, 2), (2, 1, 1, False, 2)),
    ((2, 3, 9, 8), (3, 1, 3, 3), (1, 1, 1, False, 3)),
    ((3, 4, 9, 8), (6, 4, 3, 2), (1, 2, 2, False, 1)),
    ((3, 4, 5, 6), (4, 3, 3, 2), (2, 1, 1, True, 1)),
    ((3, 4, 5, 6), (4, 3, 2, 2), (1, 0, 2, True, 2)),
    ((2, 2, 4, 5, 6), (3, 2, 2, 3, 2), (1, 1, 1, False, 1)),
    ((2, 4, 3, 4, 3), (4, 2, 2, 2, 2), (2, 0, 1, True, 1)),
]


# The switch asks for a setting of other processors.
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")


@pytest.fixture(params=["bfloat16", "float16"])
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    # Without oneDNN torch has its own kernels only, as on processors that oneDNN does not help.
    enabled: Any = torch.backends.mkldnn.flags
    with enabled(enabled=False):
        yield getattr(torch, request.param)


def _how(way: tuple[Any, ...], axes: int) -> dict[str, Any]:
    stride, padding, dilation, transposed, groups = way
    return {
        "stride": (stride,) * axes,
        "padding": (padding,) * axes,
        "dilation": (dilation,) * axes,
        "transposed": transposed,
        "output_padding": (0,) * axes,
        "groups": groups,
    }


@pytest.mark.parametrize(("x_shape", "w_shape", "way"), WAYS)
def test_parts_add_up_to_the_same(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], way: tuple[Any, ...]
) -> None:
    rng = np.random.default_rng(0)
    how = _how(way, len(x_shape) - 2)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    b = rng.standard_normal(w_shape[1] * way[4] if way[3] else w_shape[0])
    whole = convolution.function(x, w, b, **how)
    np.testing.assert_allclose(convolution.function(x, w, b, **how, in_parts=True), whole, 1e-11)
    g = rng.standard_normal(whole.shape)
    for operand in "xwb":
        gradient = convolution.gradients[operand]
        whole = gradient(g, None, (x, w, b), how)
        made = gradient(g, None, (x, w, b), how | {"in_parts": True})
        np.testing.assert_allclose(made, whole, 1e-11, 1e-12)


@pytest.mark.parametrize(("x_shape", "w_shape", "way"), WAYS)
@pytest.mark.parametrize("wrong", [False, True])
def test_torchs_own_kernels_stay_within_the_bound(
    dtype: torch.dtype,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    way: tuple[Any, ...],
    wrong: bool,
) -> None:
    how = _how(way, len(x_shape) - 2)
    worst = []
    for seed in range(3):
        torch.manual_seed(seed)
        x, w = (torch.randn(s, dtype=dtype, requires_grad=True) for s in (x_shape, w_shape))
        b = torch.randn(w_shape[1] * way[4] if way[3] else w_shape[0], dtype=dtype)
        b.requires_grad_()
        if wrong:
            hooked: Any = w
            hooked.register_hook(lambda g: g * 1.5)
        with gw.watch() as witness:
            op: Any = torch.ops.aten.convolution.default
            y = op(x, w, b, *how.values())
            torch.autograd.backward(y, torch.randn_like(y))
        # Of sums in bfloat16 not all would show an error of a tenth.
        assert (witness.verdict is gw.Verdict.DISAGREES) is wrong
        assert all(r.startswith((COARSE, LOST)) for r in witness.report.reasons())
        steps = [f for f in witness.report.findings if "onvolution" in f.title]
        assert not any(f.comparison.suspicious for f in steps)
        worst += [f.comparison.ratio for f in steps if np.isfinite(f.comparison.ratio)]
    # Nor is it slack.
    assert max(worst) > 0.25


def test_one_store_is_not_enough_for_them(dtype: torch.dtype) -> None:
    # What these tests are about: by the usual bound, torch's own kernels would be refuted.
    torch.manual_seed(0)
    model = torch.nn.Conv2d(4, 6, 3).to(dtype)
    x = torch.randn(4, 4, 9, 9, dtype=dtype, requires_grad=True)
    with gw.watch(model) as witness:
        y = model(x)
        torch.autograd.backward(y, torch.randn_like(y))
    assert not witness.report.wrong
    (call,) = (call for call in witness.tape.calls if call.base_op == "aten.convolution")
    assert call.arguments["in_parts"] is True
    del call.arguments["in_parts"]
    report = gw.judge(witness.tape)
    assert {f.title.partition(" ")[0] for f in report.wrong} == {"ConvolutionBackward0"}


def test_small_kernels_would_show_an_error_of_a_tenth(dtype: torch.dtype) -> None:
    draws = torch.Generator().manual_seed(0)
    x, w = (
        torch.randn(shape, generator=draws).to(dtype).requires_grad_()
        for shape in ((1, 2, 5, 5), (3, 2, 3, 3))
    )
    assert gw.gradcheck(torch.nn.functional.conv2d, (x, w))


def test_each_addition_is_off_by_a_rounding_of_its_partial_sum() -> None:
    # In the middle nine parts meet, 1 and -1 in turn, and their partial sums are 1, 0, 1, ..., 1.
    # Storing nine parts of size 1 costs 9 u, and storing the five partial sums that are not 0 5 u
    # more. Each of them may itself be off by the some ten roundings before it: 9 times 14 u^2.
    arithmetic = Arithmetic.stepwise("bfloat16")
    u = arithmetic.unit
    w = (-1.0) ** np.arange(9).reshape(1, 1, 9)
    g = Bounded(np.ones((1, 1, 9)), arithmetic)
    how = _how((1, 0, 1, False, 1), 1) | {"in_parts": True}
    dx = convolution.gradients["x"](g, None, (np.empty((1, 1, 17)), w, None), how)
    assert dx.value[0, 0, 8] == 1
    assert 14 * u <= dx.rigorous[0, 0, 8] <= 14 * u + 9 * 14 * u * u
