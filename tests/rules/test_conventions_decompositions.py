"""What torch does with factors of matrices at the edges, and what the witness says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.linalg import cholesky_ex, det, eigh, eigvalsh, lu, lu_factor, qr, slogdet, solve, svd

import gradwitness as gw
from rules.harness import make
from rules.sampling import Matrices, Symmetric, aten, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def watched(made: Callable[[Tensor], Any], start: Any) -> tuple[Any, Any]:
    """The report on a function's gradient at a matrix, and the matrix."""
    A = torch.as_tensor(start).clone().requires_grad_()
    with gw.watch(names={"A": A}) as witness:
        torch.autograd.backward(made(A).sum())
    return witness.report, A


def reasons(report: Any) -> str:
    return "; ".join(report.reasons())


def test_gradient_of_a_factor_is_symmetric_though_one_triangle_is_read() -> None:
    # L = sqrt(a), b / L, and sqrt(c - b^2 / a) of [[a, b], [b, c]] = [[4, 2], [2, 5]]; the sum's
    # derivative along b is 1 / 2 - 1 / 4, of which each of the two places has half.
    report, A = watched(lambda A: cholesky_ex(A)[0], [[4.0, 2.0], [2.0, 5.0]])
    expected: Any = [[1 / 4 - 2 / 16 + 4 / (16 * 4), 1 / 8], [1 / 8, 1 / 4]]
    np.testing.assert_allclose(A.grad, expected)
    assert report.verdict is gw.Verdict.AGREES


def test_a_factor_of_an_indefinite_matrix_is_not_judged() -> None:
    report, _ = watched(lambda A: cholesky_ex(A)[0], [[1.0, 2.0], [2.0, 1.0]])
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    assert "a matrix that is not positive definite" in reasons(report)


def test_values_that_coincide_have_a_gradient_and_their_vectors_none() -> None:
    report, A = watched(eigvalsh, 2 * torch.eye(3))
    np.testing.assert_array_equal(A.grad, np.eye(3))
    assert report.verdict is gw.Verdict.AGREES
    for parts in (lambda A: eigh(A)[1], lambda A: svd(A)[0]):
        report, _ = watched(parts, 2 * torch.eye(3))
        assert report.verdict is gw.Verdict.INCONCLUSIVE
        assert not report.wrong
        assert "so close that one rounding could make them equal" in reasons(report)


@pytest.mark.parametrize("place", [0, 1])
def test_a_wrong_gradient_of_eigenvectors_is_refuted(place: int) -> None:
    def hooked(A: Tensor) -> Any:
        # A copy, so that the hook is on the gradient that eigh's node sends out.
        B: Any = A * 1
        B.register_hook(lambda g: g.tril() * 2)
        return eigh(B)[place] ** 3

    report, _ = watched(hooked, [[1.0, 0.3], [0.3, 2.0]])
    assert report.verdict is gw.Verdict.DISAGREES


def test_the_order_of_rows_is_a_constant_and_no_output_of_the_node() -> None:
    start = [[0.1, 2.0], [4.0, 1.0]]
    report, A = watched(lambda A: lu(A)[2], start)
    # U = [[4, 1], [0, 2 - 0.1 * 1 / 4]].
    expected: Any = [[-1 / 4, 1.0], [1 + 0.1 / 16, 1 - 0.1 / 4]]
    np.testing.assert_allclose(A.grad, expected, rtol=1e-6)
    assert report.verdict is gw.Verdict.AGREES
    both = watched(lambda A: sum(torch.lu_unpack(*lu_factor(A))[1:]), start)[0]
    assert both.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize(
    ("pivots", "rows"),
    [
        # Exchanges that no elimination makes; the last of five is not read.
        ([1, 1, 1], [2, 0, 1]),
        ([3, 1, 2], [1, 0, 2]),
        ([3, 3, 3], [2, 0, 1]),
        ([2, 3, 3, 1, 1], [1, 2, 0]),
    ],
)
def test_pivots_of_no_elimination_are_followed(pivots: list[int], rows: list[int]) -> None:
    exchanges = torch.tensor(pivots, dtype=torch.int32)
    found: list[list[int]] = []

    def factors(LU: Tensor) -> Tensor:
        P, L, U = torch.lu_unpack(LU, exchanges)
        found.append(P.argmax(0).tolist())
        return P @ L @ U

    report, _ = watched(factors, [[4.0, 1, 2], [0.5, 3, 1], [0.25, 0.5, 2]])
    order = [0, 1, 2]
    for i, other in enumerate(pivots[:3]):
        order[i], order[other - 1] = order[other - 1], order[i]
    assert found == [rows] == [order]
    assert report.verdict is gw.Verdict.AGREES


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_pivots_are_not_judged(count: int) -> None:
    # Torch reads three, which lie in the memory of a larger tensor here.
    pivots = torch.tensor([3, 3, 3], dtype=torch.int32)[:count]
    report, _ = watched(lambda LU: torch.lu_unpack(LU, pivots)[1], torch.eye(3))
    assert "pivots that do not fit LU: torch reads the memory beyond them" in reasons(report)
    assert not report.wrong


def test_determinant_of_a_singular_matrix_is_judged_and_its_gradient_is_not() -> None:
    start = [[[1.0, 2.0], [2.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]]]
    report, _ = watched(det, start)
    forward, backward = report.coverage()["forward calls"], reasons(report)
    assert forward.judged == forward.total
    assert "a matrix that is singular" in backward
    assert not report.wrong
    report, _ = watched(lambda A: slogdet(A)[1], start)
    assert report.verdict is gw.Verdict.INCONCLUSIVE
    assert not report.wrong


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)])
@pytest.mark.parametrize(
    "made",
    [
        det,
        lambda A: slogdet(A)[1],
        torch.linalg.inv,
        lambda A: solve(A, A),
        lambda A: torch.linalg.solve_triangular(A, A, upper=True),
        torch.linalg.cholesky,
        lambda A: lu(A)[1],
        lambda A: eigh(A)[1],
        lambda A: svd(A)[1],
        lambda A: qr(A)[0],
    ],
)
def test_matrices_without_elements_fail_no_rule(made: Any, shape: tuple[int, ...]) -> None:
    report, _ = watched(made, torch.zeros(shape))
    assert set(report.reasons()) <= {"no elements: nothing was compared"}
    assert not report.wrong


@pytest.mark.parametrize(
    ("op", "shape"),
    [(aten._linalg_det, (0, 0)), (aten._linalg_slogdet, (3, 0, 0)), (aten._linalg_det, (3, 1, 1))],
)
def test_determinants_of_small_batches(op: Any, shape: tuple[int, ...]) -> None:
    case = make(sample(op.default, Matrices(shape)), "float32")
    for made, result in zip(case.values(), case.results, strict=True):
        if made is not None:
            np.testing.assert_allclose(made.value, result, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 8, 33])
@pytest.mark.parametrize(
    "op", [aten.linalg_cholesky_ex, aten._linalg_eigh, aten._linalg_svd, aten.linalg_qr]
)
def test_larger_matrices_are_judged(op: Any, n: int, dtype: str) -> None:
    spread = Symmetric((n, n), centres=tuple(float(k) * n for k in range(1, n + 1)))
    case = make(sample(op.default, spread), dtype)
    for made, result in zip(case.values(), case.results, strict=True):
        if made is not None:
            assert np.all(np.abs(made.value - result) <= made.rigorous)
            assert np.max(made.rigorous) < 1e-2 * np.max(np.abs(result))


@pytest.mark.parametrize(
    ("dtype", "q", "off"), [(torch.float64, 0.03, 1e-11), (torch.float32, 0.5, 1e-5)]
)
def test_torch_s_polynomial_of_degree_8_is_wrong(dtype: torch.dtype, q: float, off: float) -> None:
    # The exponential of [[0, q], [q, 0]] is [[cosh q, sinh q], [sinh q, cosh q]].
    A = torch.tensor([[0, q], [q, 0]], dtype=dtype)
    with gw.watch() as witness:
        wrong = torch.matrix_exp(A)
    (finding,) = witness.report.wrong
    assert "matrix_exp" in finding.title
    assert finding.comparison.expected in (
        pytest.approx(np.sinh(q), rel=1e-12), pytest.approx(np.cosh(q), rel=1e-12),
    )  # fmt: skip
    assert abs(wrong[0, 1].item() - np.sinh(q)) > off
    # By another polynomial, where a third number makes the norm larger, it is right.
    larger = torch.tensor([[0, q, 0], [q, 0, 0], [0, 0, 8 * q]], dtype=dtype)
    right = torch.matrix_exp(larger)[0, 1].item()
    assert abs(right - np.sinh(q)) < off / 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_where_terms_cancel_the_bound_of_an_exponential_is_not_that_of_their_sizes(
    dtype: torch.dtype,
) -> None:
    # A turn by 30 radians, and what falls by e^-30 or less; all terms with one sign make e^30.
    turn = torch.tensor([[0.0, -30.0], [30.0, 0.0]], dtype=dtype)
    falls = torch.tensor([[-30.0, 1.0], [0.0, -31.0]], dtype=dtype)
    with gw.watch() as witness:
        turned, fallen = torch.matrix_exp(turn), torch.matrix_exp(falls)
    of_turn, of_fall = witness.report.findings
    assert {of_turn.verdict, of_fall.verdict} == {gw.Verdict.AGREES}
    assert of_turn.comparison.bound < 0.02
    assert abs(turned[0, 0].item() - np.cos(30)) < 1e-4
    # By e^-30: the squarings' errors are relative ones.
    assert of_fall.comparison.bound < 0.1 * np.exp(-30)
    assert abs(fallen[0, 0].item() - np.exp(-30)) < 1e-4 * np.exp(-30)


def test_torch_s_exponential_of_a_matrix_is_wrong_in_bfloat16() -> None:
    # e times the identity is right; torch has numbers of 1e30, infinities and NaN.
    A = torch.eye(2, dtype=torch.bfloat16)
    with gw.watch() as witness:
        wrong = torch.matrix_exp(A)
    (finding,) = witness.report.wrong
    assert "matrix_exp" in finding.title
    assert finding.comparison.expected == pytest.approx(np.e, rel=1e-12)
    assert not torch.allclose(wrong, np.e * A, rtol=0.5)
