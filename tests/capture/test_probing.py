"""The probes' cotangents are what their names say, and a program's state is kept and put back."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradwitness.capture.again.keeping import Keeper, Randomness, move
from gradwitness.capture.again.probing import COTANGENTS, Prober, is_foreign, reached

SHAPES = [(), (1,), (5,), (3, 4), (1, 4), (2, 3, 4), (0, 3)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", COTANGENTS)
def test_a_cotangent_has_the_form_of_the_gradient(
    kind: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    before = torch.get_rng_state()
    made = COTANGENTS[kind](torch.ones(shape, dtype=dtype), generator())
    assert (made.shape, made.dtype) == (shape, dtype)
    assert bool(made.isfinite().all())
    again = COTANGENTS[kind](torch.ones(shape, dtype=dtype), generator())
    assert torch.equal(made, again)
    assert torch.equal(torch.get_rng_state(), before)


def made(kind: str, *shape: int, dtype: torch.dtype = torch.float32) -> Any:
    return COTANGENTS[kind](torch.ones(shape, dtype=dtype), generator())


def test_strided_numbers_lie_in_another_order_with_gaps() -> None:
    assert made("strided", 3, 4).stride() == (2, 6)
    assert made("strided", 2, 3, 4).stride() == (2, 4, 12)
    assert made("strided", 5).stride() == (2,)
    assert made("strided", 3, 4).storage_offset() == 1
    assert made("strided", 3, 4).unique().numel() == 12


def test_expanded_numbers_share_memory() -> None:
    assert made("expanded", 3, 4).stride()[0] == 0
    assert made("expanded", 1, 4).stride()[1] == 0
    wide = made("expanded", 3, 4)
    assert torch.equal(wide[0], wide[2])
    assert wide.unique().numel() == 4


def test_zero_and_one_hot() -> None:
    assert not made("zero", 3, 4).any()
    assert int(made("one-hot", 3, 4).count_nonzero()) == 1


def test_large_and_small_are_near_the_square_root_of_the_range() -> None:
    # Single precision ends at 2^128: 2^60; half at 2^16: 2^4.
    assert made("large", 100).std().item() == pytest.approx(2.0**60, rel=0.5)
    assert made("small", 100).std().item() == pytest.approx(2.0**-60, rel=0.5)
    half = made("large", 100, dtype=torch.float16).double()
    assert half.std().item() == pytest.approx(2.0**4, rel=0.5)


def test_moving_leaves_neither_zero_nor_one() -> None:
    for value in (0.0, 1.0, -1.0, 100.0):
        numbers: Any = torch.full((1000,), value)
        move(numbers, generator())
        # A quarter at most, and a sixteenth; of 0, a thirty-second at least.
        assert (numbers - value).abs().max() <= abs(value) / 4 + 1 / 16
        assert numbers.unique().numel() > 900
    zeros = torch.zeros(1000)
    move(zeros, generator())
    assert zeros.abs().min() >= 1 / 32
    assert (zeros > 0).any()
    assert (zeros < 0).any()


def test_all_generators_are_put_back() -> None:
    def draw() -> tuple[Any, ...]:
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002, S311

    kept = Randomness()
    first = draw()
    kept.restore()
    assert draw() == first
    assert draw() != first


def test_bits_that_compare_equal_are_put_back_too() -> None:
    # -0 equals 0, and no NaN equals itself.
    p = nn.Parameter(torch.tensor([-0.0, float("nan"), 1.0]))
    bits = p.detach().numpy().tobytes()
    keeper = Keeper(tensors=[p])
    keeper.meet_given()
    p.data.zero_()
    keeper.restore()
    assert p.detach().numpy().tobytes() == bits


def test_what_did_not_change_is_not_written_to() -> None:
    p = nn.Parameter(torch.randn(3))
    p.grad = torch.randn(3)
    keeper = Keeper(tensors=[p])
    keeper.meet_given()
    versions = p._version, p.grad._version
    keeper.restore()
    assert (p._version, p.grad._version) == versions


def test_a_leaf_is_met_when_it_is_first_read() -> None:
    p: Any = torch.ones(3, requires_grad=True)
    keeper = Keeper(moving=generator())
    keeper.meet_given()
    with keeper:
        nn.init.constant_(p, 2.0)
        assert keeper.moved == 0
        y = p * p
        assert keeper.moved == 1
    assert not bool((p == 2).any())
    # Autograd does not take the move for a change behind its back.
    y.sum().backward()
    assert torch.equal(p.grad, 2 * p.detach())
    keeper.restore()
    assert torch.equal(p.detach(), torch.full((3,), 2.0))
    assert p.grad is None


def test_foreign_nodes() -> None:
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
            return x * 2

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
            return 2 * grads[0]

    x = torch.ones(3, requires_grad=True)
    y: torch.Tensor = Own.apply(x).sin().sum()  # type: ignore[no-untyped-call]
    nodes = reached([y])
    assert len(nodes) == 4
    assert [node.name() for node in nodes if is_foreign(node)] == ["OwnBackward"]


def test_no_hook_of_a_probe_stays() -> None:
    x: Any = torch.randn(3, requires_grad=True)
    with Prober(["random", "zero"], 0, everywhere=True) as prober:
        y = (x * x).sum()
        y.backward(retain_graph=True)
    assert prober.ran == ["own", "random", "zero"]
    assert torch.equal(x.grad, 2 * x.detach())
    x.grad = None
    y.backward()
    assert torch.equal(x.grad, 2 * x.detach())


def test_the_graph_is_freed_as_the_program_asked() -> None:
    x: Any = torch.randn(3, requires_grad=True)
    with Prober(["random"], 0, everywhere=True):
        y = (x * x).sum()
        y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


def test_of_tensors_that_share_memory_all_are_put_back() -> None:
    whole = torch.zeros(6)
    parts = [nn.Parameter(whole[:4]), nn.Parameter(whole[2:])]
    keeper = Keeper(tensors=parts, moving=generator())
    keeper.meet_given()
    assert keeper.moved == 2
    assert int(whole.count_nonzero()) == 6
    keeper.restore()
    assert whole.tolist() == [0] * 6
