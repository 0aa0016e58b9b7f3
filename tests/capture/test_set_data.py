"""Tensors whose ``.data`` the program sets, to other parts of the memory that they lie in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

# Torch warns once that a gradient lies in another order than its parameter.
pytestmark = pytest.mark.filterwarnings("ignore:grad and param do not obey")


def transposed(w: Any) -> None:
    w.data = w.data.t()


def repeated(w: Any) -> None:
    w.data = w.data[0].expand(6, 6)


def unseen(w: Any) -> None:
    with torch._C.DisableTorchFunction():
        w.data = w.data.t()


def in_one_memory(w: Any) -> None:
    flat = torch.randn(72)
    w.data = flat[:36].view(6, 6)
    loss(w)
    w.data = flat[36:].view(6, 6)


def loss(w: Any) -> None:
    x = torch.arange(12.0).view(2, 6)
    torch.autograd.backward((x @ w).square().sum())


@pytest.mark.parametrize("keep", [0, None])
@pytest.mark.parametrize("depth", ["full", "fast"])
@pytest.mark.parametrize("change", [transposed, repeated, unseen, in_one_memory])
def test_it_is_another_value(change: Callable[[Any], None], depth: str, keep: int | None) -> None:
    w = torch.nn.Parameter(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    with gw.watch(names={"w": w}, depth=depth, keep=keep) as witness:
        loss(w)
        change(w)
        loss(w)
    report = witness.report
    assert report.verdict is gw.Verdict.AGREES
    assert {row.name for row in report.rows} == {"w"}


@pytest.mark.parametrize("keep", [0, None])
def test_a_gradient_is_set_likewise(keep: int | None) -> None:
    w = torch.nn.Parameter(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    with gw.watch(names={"w": w}, keep=keep) as witness:
        loss(w)
        transposed(w.grad)
        loss(w)
    assert witness.report.verdict is not gw.Verdict.DISAGREES


def test_its_hooks_are_known() -> None:
    w = torch.nn.Parameter(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    hooked: Any = w
    with gw.watch(names={"w": w}) as witness:
        hooked.register_hook(lambda g: 2 * g)
        loss(w)
        transposed(w)
        loss(w)
    assert [sweep.hooks for sweep in witness.tape.sweeps if not sweep.hooks] == []
    assert witness.report.verdict is gw.Verdict.DISAGREES
