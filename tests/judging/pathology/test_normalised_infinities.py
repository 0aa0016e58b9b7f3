"""Normalisations that make NaN of an infinity: the note is where that was born."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw
from judging.pathology.watching import at

if TYPE_CHECKING:
    from collections.abc import Callable

X = 100 * torch.ones(8, 4).cumsum(1)


def layer(x: Any) -> Any:
    return nn.LayerNorm(4)(x)


def groups(x: Any) -> Any:
    return nn.GroupNorm(2, 4)(x)


def batch(x: Any) -> Any:
    return nn.BatchNorm1d(4)(x)


def exponential(x: Any, norm: Callable[[Any], Any]) -> Any:
    hidden = x.exp()
    return norm(hidden * 2)


def quotient(x: Any, norm: Callable[[Any], Any]) -> Any:
    hidden = 1 / (x - 400)
    return norm(torch.relu(hidden + 1))


def power(x: Any, norm: Callable[[Any], Any]) -> Any:
    hidden = (x * 1e5) ** 8
    return norm(hidden.view(8, 4))


@pytest.mark.parametrize("program", [exponential, quotient, power])
@pytest.mark.parametrize("norm", [layer, groups, batch])
def test_the_infinity_is_told_and_not_the_norm(program: Any, norm: Any) -> None:
    x = X.clone().requires_grad_()
    with gw.watch() as witness:
        program(x, norm).sum().backward()
    note = witness.report.notes[0]
    assert note.kind == "infinity born"
    assert at(note, program, "hidden = ")
    assert "_norm" in note.text.rpartition(" makes NaN of ")[0]
    assert "NaN born" not in [n.kind for n in witness.report.notes if n.sweep is None]


def test_an_infinity_in_the_data_came_in() -> None:
    x = X.clone()
    x[0, 0] = float("inf")
    x.requires_grad_()
    with gw.watch(names={"x": x}) as witness:
        layer(x * 2).sum().backward()
    note = witness.report.notes[0]
    assert note.kind == "infinity came in"
    assert note.text.startswith("aten.mul.Tensor (call 0) reads infinity from x.")


def test_an_infinity_that_harms_nothing_is_not_told() -> None:
    x = X.clone().requires_grad_()
    with gw.watch() as witness:
        x.exp().max()
        layer(x.clamp(max=10).exp() + x).square().sum().backward()
    assert witness.report.notes == ()


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_what_a_norm_does_itself_has_its_own_advice(eps: float) -> None:
    x = torch.full((8, 4), 1e20 if eps else 1.0, requires_grad=True)
    x = (x.detach() * (X if eps else 1)).requires_grad_()
    with gw.watch() as witness:
        nn.LayerNorm(4, eps=eps)(x).sum().backward()
    note = witness.report.notes[0]
    assert note.kind in ("NaN born", "infinity born")
    assert "variance overflows, or is 0 with eps=0" in note.text
