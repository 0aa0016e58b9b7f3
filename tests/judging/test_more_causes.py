"""Mistakes in backwards of rows, scans, masks and indices, and gradients of functions nearby."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

import gradwitness as gw
from capture.functions import apply
from judging import guilty_functions as guilty

if TYPE_CHECKING:
    from collections.abc import Callable

N, M = (6, 8), (8,)
WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.7, 1.6, 0.4])
K = torch.arange(3).expand(6, 3)
COPIES = torch.tensor([[0.5], [2.0], [-1.5]])
KEPT = (torch.arange(48).reshape(6, 8) % 3 != 1) / 0.7
U, V = torch.tensor([0.5, -0.1, 0.7, 0.2, 0.4]), torch.tensor([0.3, 0.3, -0.6, 0.5, 0.2])


def ema(x: Any, a: Any) -> Any:
    states = [x[:, 0]]
    for now in x[:, 1:].unbind(1):
        states.append(a * states[-1] + now)
    return torch.stack(states, 1)


def weighted(x: Any) -> Any:
    return torch.logsumexp(WEIGHTS * (x * x).sum(-1), 0)


def flipped(g: Any) -> Any:
    return torch.flip(torch.flip(g, [-1]).cumsum(-1), [-1])


def filtered(x: Any, re: Any, im: Any) -> Any:
    return torch.fft.irfft(torch.fft.rfft(x) * torch.complex(re, im), n=8)


def spectra(g: Any, x: Any) -> Any:
    """Return the gradients of a filter's numbers: those between the ends count twice."""
    product = torch.fft.rfft(g) * torch.fft.rfft(x).conj()
    product = (product * torch.tensor([1, 2, 2, 2, 1]) / 8).sum(0)
    return product.real, product.imag * torch.tensor([0, 1, 1, 1, 0])


def overwritten(g: Any, x: Any) -> Any:
    """Return what remains where each window writes and does not add."""
    sent = torch.zeros_like(x)
    for row, largest in enumerate((x.unfold(-1, 3, 1).argmax(-1) + torch.arange(6)).tolist()):
        for window, place in enumerate(largest):
            sent[row, place] = g[row, window]
    return sent


# The forward, a backward by hand with its mistake, the inputs' shapes, the wrong inputs, the cause.
MISTAKES: dict[str, tuple[Any, Any, Any, Any, str]] = {
    "log-softmax, g - p": (
        lambda x: torch.log_softmax(x, -1),
        lambda g, x: g - torch.softmax(x, -1),
        (N,), [0], "log-softmax without its sum",
    ),
    "log-softmax, as softmax": (
        lambda x: torch.log_softmax(x, -1),
        lambda g, x: torch.softmax(x, -1) * (g - (torch.softmax(x, -1) * g).sum(-1, keepdim=True)),
        (N,), [0], "derivative of a sister function",
    ),
    "softmax, sum along the columns": (
        lambda x: torch.softmax(x, -1),
        lambda g, x: torch.softmax(x, -1) * (g - (torch.softmax(x, -1) * g).sum(0)),
        (N,), [0], "derivative along the wrong axis",
    ),
    "logsumexp, softmax of the columns": (
        lambda x: torch.logsumexp(x, -1),
        lambda g, x: torch.softmax(x, 0) * g[:, None],
        (N,), [0], "derivative along the wrong axis",
    ),
    "cumsum, not reversed": (
        lambda x: x.cumsum(-1),
        lambda g, _: g.cumsum(-1),
        (N,), [0], "running sum not reversed",
    ),
    "cumprod, not reversed": (
        lambda x: x.cumprod(-1),
        lambda g, x: (g * x.cumprod(-1)).cumsum(-1) / x,
        (N,), [0], "running sum not reversed",
    ),
    "cumsum, without its own term": (
        lambda x: x.cumsum(-1),
        lambda g, _: flipped(g) - g,
        (N,), [0], "running sum off by one",
    ),
    "amax, to all": (
        lambda x: x.amax(-1),
        lambda g, _: g[:, None].expand(6, 8),
        (N,), [0], "mask ignored in backward",
    ),
    "reflection, without the padding": (
        lambda x: F.pad(x, (2, 1), mode="reflect"),
        lambda g, _: g[:, 2:-1],
        (N,), [0], "gradients of the padding dropped",
    ),
    "zeros before, cut off elsewhere": (
        lambda x: F.pad(x, (2, 0)),
        lambda g, _: g[:, 1:-1],
        (N,), [0], "padding cut off at the wrong place",
    ),
    "where, by the gradient": (
        lambda x, a: torch.where(x > 0, x, a * x),
        lambda g, x, a: (torch.where(g > 0, g, a * g), (g * x * (x <= 0)).sum(0)),
        (N, M), [0], "another mask",
    ),
    "leaky relu, by the gradient": (
        lambda x: F.leaky_relu(x, 0.1),
        lambda g, _: torch.where(g > 0, g, 0.1 * g),
        (N,), [0], "mask taken from the gradient",
    ),
    "topk, to the first": (
        lambda x: x.topk(3, -1).values,
        lambda g, x: torch.zeros_like(x).scatter(-1, K, g),
        (N,), [0], "right numbers in the wrong places",
    ),
    "alpha for beta": (
        lambda x: torch.sin(x * 0.3) + torch.cos(x * 0.7),
        lambda g, x: g * (0.7 * torch.cos(0.7 * x) - 0.3 * torch.sin(0.3 * x)),
        (N,), [0], "two numbers exchanged",
    ),
    "softplus, without beta": (
        lambda x: torch.log1p(torch.exp(x * 3)) / 3,
        lambda g, x: g * torch.sigmoid(x),
        (N,), [0], "gradient of the function without a number",
    ),
    "a loss without its weights": (
        weighted,
        lambda g, x: g * 2 * x * torch.softmax((x * x).sum(-1), 0)[:, None],
        (N,), [0], "gradient of the function without a number",
    ),
    "squared relu, without relu": (
        lambda x: torch.relu(x) ** 2,
        lambda g, x: 2 * g * x,
        (N,), [0], "gradient of the function without a step",
    ),
    "inverse, not transposed": (
        lambda a: torch.linalg.inv(a),
        lambda g, a: -torch.linalg.inv(a) @ g @ torch.linalg.inv(a),
        ((5, 5),), [0], "factor transposed in the derivative",
    ),
    "a product with what is flipped": (
        lambda x, w: x * w,
        lambda g, x, w: (g * torch.flip(w, [0]), (g * x).sum(0)),
        (N, M), [0], "factor flipped in the derivative",
    ),
    "a factor that one of the gradients lacks": (
        lambda x, u, s: x @ u * s,
        lambda g, x, u, s: (g @ u.T, x.T @ (g * s), (g * (x @ u)).sum(0)),
        (N, (8, 4), (4,)), [0], "derivative of a step left out",
    ),
    "a learned factor": (
        lambda x, k: torch.exp(k * x),
        lambda g, x, k: (g * torch.exp(k * x), (g * x * torch.exp(k * x)).sum()),
        (N, ()), [0], "a factor missing",
    ),
    "a learned factor that two gradients lack": (
        lambda x, y, k: k * (x - y) ** 2,
        lambda g, x, y, _: (2 * g * (x - y), 2 * g * (y - x), (g * (x - y) ** 2).sum()),
        (N, N, ()), [0, 1], "a factor missing",
    ),
    "a state that is not followed": (
        ema,
        lambda g, x, a: (g, (g[:, 1:] * ema(x, a)[:, :-1]).sum((0, 1))),
        ((4, 8, 5), (5,)), [0, 1], "term missing",
    ),
    "a sum that is no mean of a normalisation": (
        lambda x: x * x.sum(-1, keepdim=True),
        lambda g, x: g * x.sum(-1, keepdim=True),
        (N,), [0], "term missing",
    ),
    "an input that is not transposed": (
        lambda x, w: x @ w.reshape(9),
        lambda g, x, w: (g[:, None] * w.T.reshape(9), (g @ x).reshape(3, 3)),
        ((6, 9), (3, 3)), [0], "factor transposed in the derivative",
    ),
    "a filter that is not conjugated": (
        filtered,
        lambda g, x, re, im: (filtered(g, re, im), *spectra(g, x)),
        (N, (5,), (5,)), [0], "factor with the wrong sign in the derivative",
    ),
    "an input for another": (
        lambda x, w, y: (x @ w * y).sum(-1),
        lambda g, x, w, y: (g[:, None] * (y @ w.T), x.T @ (g[:, None] * y), g[:, None] * (y @ w)),
        ((6, 4), (4, 4), (6, 4)), [2], "wrong value in the derivative",
    ),
    "the last row alone": (
        lambda x, w: x @ w,
        lambda g, x, w: (g @ w.T, x[-1:].T @ g[-1:]),
        (N, (8, 4)), [1], "one sample only",
    ),
    "a copy for each head, averaged": (
        lambda x: (x[:, None].expand(6, 3, 8) * COPIES).flatten(1),
        lambda g, _: (g.reshape(6, 3, 8) * COPIES).mean(1),
        (N,), [0], "averaged instead of summed",
    ),
    "a bias of many samples and places, the first sample alone": (
        lambda x, b: x * torch.exp(b)[:, None],
        lambda g, x, b: (g * torch.exp(b)[:, None], (g * x).sum(2)[0] * torch.exp(b)),
        ((4, 3, 5), (3,)), [1], "one sample only",
    ),
    "windows that overlap": (
        lambda x: x.unfold(-1, 3, 1).amax(-1),
        overwritten,
        (N,), [0], "repeated indices overwrite each other",
    ),
    "two minima, each to all": (
        lambda x: torch.cat([x.amin(0), x.amin(1)]),
        lambda g, _: g[:8].expand(6, 8) + g[8:, None],
        (N,), [0], "mask ignored in backward",
    ),
    "logsumexp, as a sum": (
        lambda x: torch.logsumexp(x, -1),
        lambda g, _: g[:, None].expand(6, 8),
        (N,), [0], "derivative of a step left out",
    ),
    "a product with what is broadcast, left out": (
        lambda x, w: x * w,
        lambda g, _, w: (g * w, g.sum(0)),
        (N, M), [1], "derivative of a step left out",
    ),
    "a norm's vectors in the wrong order": (
        lambda w: w / (U @ w @ V),
        lambda g, w: g / (U @ w @ V) - (g * w).sum() / (U @ w @ V) ** 2 * torch.outer(V, U),
        ((5, 5),), [0], "term transposed",
    ),
    "tanh, without the square": (
        torch.tanh,
        lambda g, x: g * (1 - torch.tanh(x)),
        (N,), [0], "wrong power in the derivative",
    ),
    "sigmoid, half of it": (
        torch.sigmoid,
        lambda g, x: g * torch.sigmoid(x),
        (N,), [0], "a factor missing",
    ),
    "a mask that is multiplied in": (
        lambda x, w: x * KEPT @ w,
        lambda g, x, w: (g @ w.T, x.T @ g),
        (N, (8, 4)), [0, 1], "mask ignored in backward",
    ),
}  # fmt: skip


def applied(forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return backward(g, *ctx.saved_tensors)

    return Custom


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name: str) -> None:
    forward, backward, shapes, inputs, cause = MISTAKES[name]
    torch.manual_seed(0)
    leaves = guilty.parameters(*shapes)
    with gw.watch() as witness:
        result = apply(applied(forward, backward), *leaves)
        result.backward(torch.randn(result.shape))
    assert [f.tensor_nr for f in witness.report.wrong] == inputs
    assert {f.cause for f in witness.report.wrong} == {cause}
