"""Functions of symmetric matrices that read one triangle, as a Cholesky factorisation does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from gradwitness import Verdict


class NumpySolve(Function):
    """The solution of A x = b for a symmetric A, with one of several gradients -A^-T g x^T of A."""

    gradient: Any = None

    @staticmethod
    def solved(a: Any, b: Any) -> Any:
        factor = np.linalg.cholesky(a.numpy())
        return torch.from_numpy(np.linalg.solve(factor.T, np.linalg.solve(factor, b.numpy())))

    @classmethod
    def forward(cls, ctx: Any, a: Any, b: Any) -> Any:
        x = cls.solved(a, b)
        ctx.save_for_backward(a, x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, x = ctx.saved_tensors
        of_b = torch.linalg.solve(a.mT, grads[0])
        return NumpySolve.gradient(of_b, x), of_b


class TorchSolve(NumpySolve):
    """The same, recorded."""

    @staticmethod
    def solved(a: Any, b: Any) -> Any:
        return torch.cholesky_solve(b[:, None], torch.linalg.cholesky(a))[:, 0]


class FullSolve(NumpySolve):
    """The same, by a method that reads both triangles."""

    @staticmethod
    def solved(a: Any, b: Any) -> Any:
        return torch.from_numpy(np.linalg.solve(a.numpy(), b.numpy()))


def whole(of_b: Any, x: Any) -> Any:
    return -torch.outer(of_b, x)


def transposed(of_b: Any, x: Any) -> Any:
    return -torch.outer(x, of_b)


def doubled(of_b: Any, x: Any) -> Any:
    return -2 * torch.outer(of_b, x)


def verdict(function: type[NumpySolve], gradient: Any, monkeypatch: Any, *, made: bool) -> Verdict:
    monkeypatch.setattr(NumpySolve, "gradient", gradient)
    torch.manual_seed(0)
    m, b = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    m = (m if made else m @ m.mT).requires_grad_()
    with gw.watch() as witness:
        # Nearly singular: a longer step along a slope leaves the positive definite matrices.
        apply(function, m @ m.mT if made else m, b.requires_grad_()).square().sum().backward()
    return witness.verdict


@pytest.mark.parametrize("function", [NumpySolve, TorchSolve])
@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        (whole, Verdict.AGREES),
        # Of A = M M^T the error is antisymmetric, and (E + E^T) M = 0.
        (transposed, Verdict.AGREES),
        (doubled, Verdict.DISAGREES),
    ],
)
def test_what_reads_a_triangle_need_only_be_right_along_symmetric_matrices(
    function: type[NumpySolve],
    gradient: Any,
    expected: Verdict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert verdict(function, gradient, monkeypatch, made=True) is expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # Nothing keeps a leaf symmetric: along other directions it is another function.
        (NumpySolve, Verdict.INCONCLUSIVE),
        (FullSolve, Verdict.DISAGREES),
    ],
)
def test_at_a_symmetric_leaf_a_transposed_gradient_does_not_pass(
    function: type[NumpySolve], expected: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verdict(function, transposed, monkeypatch, made=False) is expected
