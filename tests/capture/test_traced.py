"""What ``torch.jit.trace`` writes down inside a watched block: the program alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
TRACE: Any = torch.jit.trace


def detached(x: Tensor) -> Tensor:
    return x.detach() * x


def data(x: Tensor) -> Tensor:
    return x.data * x


def data_of_a_result(x: Tensor) -> Tensor:
    return (x * 2).data * x


def named_without_gradients(x: Tensor) -> Tensor:
    with torch.no_grad():
        factor = x.exp()
    return factor * x


def written_to(x: Tensor) -> Tensor:
    y = x.clone()
    y.add_(1)
    y[0] = 0
    return y * x


def by_its_size(x: Tensor) -> Tensor:
    return x.detach().reshape(x.shape[0]) * x.sum() / x.shape[0]


FUNCTIONS = (detached, data, data_of_a_result, named_without_gradients, written_to, by_its_size)


def traced(function: Callable[[Tensor], Tensor]) -> tuple[str, str, list[float]]:
    """Return a trace's graph, with the lines that made it, and the gradient of what it computes."""
    x = torch.linspace(0.1, 1.0, 4, requires_grad=True)
    trace = TRACE(function, x)
    trace(x).square().sum().backward()
    assert x.grad is not None
    return str(trace.graph), trace.code, x.grad.tolist()


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_trace_is_the_same_graph_inside(function: Callable[[Tensor], Tensor]) -> None:
    with gw.watch() as witness:
        inside = traced(function)
    assert inside == traced(function)
    witness.require()


@pytest.mark.parametrize("options", [{}, {"keep": 0}, {"depth": "fast"}], ids=str)
def test_a_model_may_be_traced(options: Any) -> None:
    # Torch traces a second time, and raises if that gives another graph.
    model, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(5, 6)
    with gw.watch(**options) as witness:
        TRACE(model, x)(x).square().mean().backward()
    witness.require()
