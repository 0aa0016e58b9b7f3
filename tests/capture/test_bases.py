"""Functions of a space, that return any basis of it."""

# Torch prescribes the parameters.

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import Function

import gradwitness as gw
from capture.functions import apply
from gradwitness import Verdict


class NullSpace(Function):
    """Orthonormal columns that A takes to 0, in float64: A dV = -dA V moves them out of it."""

    factor = 1.0

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        _, _, vh = torch.linalg.svd(a, full_matrices=True)
        null = vh[a.shape[0] :].T
        ctx.save_for_backward(a, null)
        return null

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, null = ctx.saved_tensors
        return -NullSpace.factor * torch.linalg.pinv(a).T @ grads[0] @ null.T


def projected(a: Any, weights: Any) -> Any:
    """Return a sum over the projection to A's null space, in float32, which has no basis."""
    null = apply(NullSpace, a.double()).to(a.dtype)
    return ((null @ null.T) * weights).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, Verdict.AGREES), (1.0001, Verdict.DISAGREES), (-1.0, Verdict.DISAGREES)],
)
def test_the_rounding_that_turns_a_basis_refutes_nothing(
    factor: float, verdict: Verdict, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NullSpace, "factor", factor)
    torch.manual_seed(0)
    a: Any = torch.randn(3, 6, dtype=dtype).requires_grad_()
    weights = torch.randn(6, 6, dtype=dtype)
    with gw.watch(names={"a": a}) as witness:
        projected(a, weights).backward()
    assert witness.verdict is verdict, witness.report.reasons()

    def value(step: Any) -> float:
        """Project along I - A^+ A, without a basis."""
        moved = a.detach().double().numpy() + step
        projection = np.eye(6) - np.linalg.pinv(moved) @ moved
        return float((projection * weights.double().numpy()).sum())

    v = np.random.default_rng(0).normal(size=(3, 6))
    slope = (value(1e-5 * v) - value(-1e-5 * v)) / 2e-5
    claimed = float((a.grad.double().numpy() * v).sum())
    assert (abs(claimed - slope) < 1e-6 * abs(slope)) is (verdict is Verdict.AGREES)


def test_the_sign_of_a_vector_is_that_of_this_run() -> None:
    # Of two of these matrix's four real eigenvectors float64's kernel chooses the other sign.
    torch.manual_seed(0)
    a: Any = torch.randn(4, 4, dtype=torch.float64).float().requires_grad_()
    with gw.watch(names={"a": a}) as witness:
        vectors = torch.linalg.eig(a).eigenvectors
        vectors.real.pow(3).sum().backward()
    assert witness.verdict is Verdict.AGREES, witness.report.reasons()
    recorded = vectors.detach().real.double().numpy()

    def value(step: Any) -> float:
        found = np.linalg.eig(a.detach().double().numpy() + step)[1].real
        along = found.T @ recorded
        nearest = np.argmax(np.abs(along), axis=0)
        signs = np.sign(along[nearest, np.arange(4)])
        return float(np.sum((found[:, nearest] * signs) ** 3))

    v = np.random.default_rng(0).normal(size=(4, 4))
    slope = (value(1e-5 * v) - value(-1e-5 * v)) / 2e-5
    np.testing.assert_allclose(float((a.grad.double().numpy() * v).sum()), slope, rtol=1e-4)
