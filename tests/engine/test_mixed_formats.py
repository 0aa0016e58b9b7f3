"""Backwards that compute with some operands alone, in their own formats, before the others."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw
from gradwitness import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
# Each with its gradients by hand, of a cotangent g; None where there is none, or they cancel.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., tuple[Any, Any]]]] = {
    # Torch squares each operand in its format, and adds then.
    "atan2": (
        torch.atan2,
        lambda g, a, b: (g * b / (a * a + b * b), -g * a / (a * a + b * b)),
    ),
    # It rounds 0.3 to the divisor's format, whose squares may underflow in float16.
    "addcdiv": (
        lambda a, b: torch.addcdiv(a, b, b, value=0.3),
        lambda g, a, b: (g, None),  # noqa: ARG005
    ),
    # It rounds each number of the gradient to the source's format, and adds then.
    "copy": (
        lambda a, b: torch.zeros_like(a).copy_(b),
        lambda g, a, b: (None, g),  # noqa: ARG005
    ),
}


def pair(formats: tuple[torch.dtype, torch.dtype], seed: int, *, axes: bool) -> list[Any]:
    """Return two leaves of these formats, the second with or without axes."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    given = [a, b if axes else b[0, 0].clone()]
    return [x.to(dtype).requires_grad_() for x, dtype in zip(given, formats, strict=True)]


@pytest.mark.low_precision
@pytest.mark.parametrize("axes", [True, False])
@pytest.mark.parametrize("formats", [*itertools.permutations(FORMATS, 2)], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_rounded_in_an_operands_own_format_is_not_refuted(
    name: str, formats: tuple[torch.dtype, torch.dtype], *, axes: bool
) -> None:
    function, slopes = FUNCTIONS[name]
    for seed in range(3):
        a, b = leaves = pair(formats, seed, axes=axes)
        with gw.watch(names={"a": a, "b": b}) as witness:
            result = function(a, b)
            g = torch.randn(result.shape, generator=torch.Generator().manual_seed(9))
            result.backward(g.to(result.dtype))
        assert witness.verdict is not Verdict.DISAGREES, witness
        # By hand, in float64, up to what the coarsest format may lose.
        unit = max(torch.finfo(dtype).eps for dtype in (*formats, result.dtype))
        wide = (x.detach().double() for x in leaves)
        for x, slope in zip(leaves, slopes(g.to(result.dtype).double(), *wide), strict=True):
            if slope is not None:
                error = (x.grad.double() - slope.sum_to_size(x.shape)).abs()
                assert (error <= 4 * unit * slope.abs().sum_to_size(x.shape)).all()


@pytest.mark.low_precision
@pytest.mark.parametrize("narrow", FORMATS[:2], ids=str)
@pytest.mark.parametrize("wide", FORMATS[2:], ids=str)
def test_what_was_rounded_on_its_way_to_the_result_is_not_refuted(
    wide: torch.dtype, narrow: torch.dtype
) -> None:
    """Torch takes the sign for the result over the operand, which is 1 but for that rounding."""
    off = 0
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        a: Any = torch.randn((), generator=generator, dtype=wide, requires_grad=True)
        b = torch.randn(1, generator=generator).to(narrow)
        with gw.watch(names={"a": a}) as witness:
            torch.autograd.backward(torch.copysign(a, b), torch.ones(1, dtype=narrow))
        assert witness.verdict is not Verdict.DISAGREES, witness
        error = abs(a.grad.item() - (torch.sign(a) * torch.sign(b)).item())
        assert error <= torch.finfo(narrow).eps
        off += error > 0
    assert off


def test_a_tenth_too_much_is_refuted_all_the_same() -> None:
    a, b = pair((torch.float32, torch.bfloat16), 0, axes=True)
    with gw.watch(names={"a": a, "b": b}) as witness:
        result: Any = torch.atan2(a, b)
        result.grad_fn.register_hook(lambda sent, _: (1.1 * sent[0], sent[1]))
        result.backward(torch.linspace(0.5, 1.5, 30).view(5, 6))
    assert witness.verdict is Verdict.DISAGREES


def test_what_underflows_counts_though_another_format_is_coarser() -> None:
    # In float16, 0.000386^2 is 2.5 times the smallest number; bfloat16 has numbers between.
    a: Any = torch.ones(1, dtype=torch.bfloat16, requires_grad=True)
    b: Any = torch.full((1,), 0.000386, dtype=torch.float16, requires_grad=True)
    with gw.watch(names={"a": a, "b": b}) as witness:
        torch.autograd.backward(torch.addcdiv(a, b, b, value=0.3).sum())
    assert witness.verdict is not Verdict.DISAGREES, witness
