"""Linear algebra of complex numbers: torch's gradients agree, and are what differences say.

The factors are made of a loss that does not depend on what they leave open: eigenvectors and
singular vectors may be turned in the complex plane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradwitness as gw

if TYPE_CHECKING:
    from collections.abc import Callable

    Program = Callable[[torch.Tensor], Any]

linalg: Any = torch.linalg


def matrix(*shape: int, seed: int = 0, kind: torch.dtype = torch.complex128) -> torch.Tensor:
    """A complex matrix whose diagonal stands out."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(-0.5, 0.5, shape) + 1j * rng.uniform(-0.5, 0.5, shape)
    numbers = numbers + np.eye(shape[-2], shape[-1]) * (2 + np.arange(shape[-1]) - 0.5j)
    return torch.from_numpy(numbers).to(kind)


def positive(x: torch.Tensor) -> torch.Tensor:
    """A Hermitian matrix that is positive definite, with eigenvalues apart."""
    return x @ x.mH


def upper(x: torch.Tensor) -> torch.Tensor:
    factor: torch.Tensor = linalg.cholesky(positive(x), upper=True)
    return factor


def right(x: torch.Tensor) -> torch.Tensor:
    return matrix(*x.shape, seed=7, kind=x.dtype)[..., :2]


def lu_solved(x: torch.Tensor, **form: bool) -> torch.Tensor:
    rows = right(x) if form.get("left", True) else right(x).mT
    solution: torch.Tensor = linalg.lu_solve(*linalg.lu_factor(x), rows, **form)
    return solution


def reflected(x: torch.Tensor, **form: Any) -> torch.Tensor:
    rows = right(x) if form.get("left", True) else right(x).mT
    vectors, factors = x.tril()[:, :3], x.diagonal()[:3] / 4
    return torch.ormqr(vectors, factors, rows * x[0, 0], **form)


SQUARE: dict[str, Program] = {
    "inv": linalg.inv,
    "solve": lambda x: linalg.solve(x, right(x)),
    "solve from the right": lambda x: linalg.solve(x, right(x).mT, left=False),
    "det": linalg.det,
    "slogdet": lambda x: tuple(linalg.slogdet(x)),
    "solve_triangular": lambda x: linalg.solve_triangular(x, right(x), upper=True),
    "solve_triangular, unit": lambda x: linalg.solve_triangular(
        x, right(x), upper=False, unitriangular=True
    ),
    "triangular_solve": lambda x: torch.triangular_solve(right(x), x, transpose=True)[0],
    "lu": lambda x: linalg.lu(x)[1:],
    "lu_solve": lu_solved,
    "lu_solve, adjoint": lambda x: lu_solved(x, adjoint=True),
    "lu_solve, adjoint from the right": lambda x: lu_solved(x, left=False, adjoint=True),
    "matrix_exp": lambda x: linalg.matrix_exp(x / 8),
    "cholesky": lambda x: linalg.cholesky(positive(x)),
    "cholesky, upper": lambda x: upper(x),
    "cholesky_solve": lambda x: torch.cholesky_solve(right(x), linalg.cholesky(positive(x))),
    "cholesky_solve, upper": lambda x: torch.cholesky_solve(right(x), upper(x), upper=True),
    "cholesky_inverse": lambda x: torch.cholesky_inverse(linalg.cholesky(positive(x))),
    "cholesky_inverse, upper": lambda x: torch.cholesky_inverse(upper(x), upper=True),
    "pinv of a Hermitian matrix": lambda x: linalg.pinv(positive(x), hermitian=True),
    "eigvalsh": lambda x: linalg.eigvalsh(positive(x)),
    "eigh": lambda x: [y.abs() for y in linalg.eigh(positive(x))],
    "eigh, projections": lambda x: projections(linalg.eigh(positive(x))[1]),
    "eigvals": linalg.eigvals,
    "eig": lambda x: [y.abs() for y in linalg.eig(x)],
    "eig, squared": lambda x: squared_by_eigenpairs(*linalg.eig(x)),
    "eig of real numbers": lambda x: [y.abs() for y in linalg.eig(x.real + x.imag)],
    "norm": lambda x: [linalg.norm(x, p) for p in ("nuc", "fro", 1, 2, -2, np.inf)],
    "vector_norm": lambda x: [linalg.vector_norm(x, p, 0) for p in (0.5, 1, 1.5, 2, 3, np.inf)],
    "dist": lambda x: torch.dist(x, x.mT.roll(1, 0), 3),
    "renorm": lambda x: torch.renorm(x, 2, 0, 1.5),
    "var": lambda x: [*torch.var_mean(x, 0), *torch.std_mean(x), x.var(1), x.std(1)],
    "ormqr": lambda x: [reflected(x, transpose=turn) for turn in (False, True)],
    "ormqr from the right": lambda x: [
        reflected(x, left=False, transpose=turn) for turn in (False, True)
    ],
    "einsum": lambda x: torch.einsum("ij,kj,kl->il", x, x.conj(), x),
    "matrix_power": lambda x: linalg.matrix_power(x, 3),
}
OBLONG: dict[str, Program] = {
    "qr": lambda x: tuple(linalg.qr(x)),
    "svdvals": linalg.svdvals,
    "svd": lambda x: [y.abs() for y in linalg.svd(x, full_matrices=False)],
    "svd, one side": lambda x: linalg.svd(x, full_matrices=False)[0].abs(),
    "svd, both sides": lambda x: both_sides(*linalg.svd(x, full_matrices=False)),
    "pinv": linalg.pinv,
    "lstsq": lambda x: [
        y
        for driver in ("gelsy", "gelsd")
        for y in linalg.lstsq(x, right(x), driver=driver)[:2]
        if y.numel()
    ],
    "householder_product": lambda x: linalg.householder_product(
        x.tril() if x.shape[0] >= x.shape[1] else x.mT.tril(), x.diagonal() / 4
    ),
}


def projections(vectors: torch.Tensor) -> torch.Tensor:
    """What spaces each vector and those before it span: the phases drop out."""
    return torch.stack([vectors[:, :k] @ vectors[:, :k].mH for k in range(1, len(vectors))])


def both_sides(u: torch.Tensor, s: torch.Tensor, vh: torch.Tensor) -> torch.Tensor:
    """The matrix with other singular values, for which both phases count, but not each."""
    return u @ torch.diag_embed(s.log()).to(u.dtype) @ vh


def squared_by_eigenpairs(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    square: torch.Tensor = linalg.solve(vectors, vectors * values**2, left=False)
    return square


def loss(made: Any) -> torch.Tensor:
    """Both parts of all results, each number with a weight of its own."""
    total = torch.zeros((), dtype=torch.float64)
    for k, y in enumerate(made if isinstance(made, (tuple, list)) else [made]):
        rng = np.random.default_rng(100 + k)
        flat = torch.view_as_real(y.resolve_conj()).flatten() if y.is_complex() else y.flatten()
        total = total + (flat * torch.from_numpy(rng.uniform(0.5, 1.5, flat.shape))).sum()
    return total


def by_differences(program: Program, x: torch.Tensor) -> Any:
    """dL/da + i dL/db for each number a + i b, by differences of fourth order."""
    out = np.zeros(x.shape, np.complex128)
    for at in np.ndindex(*x.shape):
        for unit in (1, 1j):
            for step, weight in ((1e-3, 4 / 3), (2e-3, -1 / 3)):
                ends = []
                for sign in (1, -1):
                    moved = x.clone()
                    moved[at] += sign * step * unit
                    ends.append(loss(program(moved)).item())
                out[at] += unit * weight * (ends[0] - ends[1]) / (2 * step)
    return out


def watched(program: Program, x: torch.Tensor) -> tuple[gw.Report, Any]:
    leaf = x.clone().requires_grad_()
    with gw.watch(names={"x": leaf}) as witness:
        torch.autograd.backward(loss(program(leaf)))
    assert leaf.grad is not None
    return witness.report, leaf.grad.numpy()


CASES = [
    *((name, program, (4, 4)) for name, program in SQUARE.items()),
    *(
        (f"{name}, {rows} by {columns}", program, (rows, columns))
        for name, program in OBLONG.items()
        for rows, columns in ((4, 4), (5, 3), (3, 5))
    ),
]


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.parametrize(("program", "shape"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_gradient_agrees_and_is_what_differences_say(program: Program, shape: Any) -> None:
    x = matrix(*shape)
    report, gradient = watched(program, x)
    assert dict(report.reasons()) == {}
    assert report.verdict is gw.Verdict.AGREES, str(report)
    truth = by_differences(program, x)
    assert np.max(np.abs(gradient - truth)) < 1e-8 * np.max(np.abs(truth))
    # And so it is in the narrower format, to its digits.
    single, _ = watched(program, x.to(torch.complex64))
    assert single.verdict is gw.Verdict.AGREES, str(single)


@pytest.mark.parametrize("seed", range(6))
def test_eigenvalues_of_nearly_triangular_matrices_are_not_refuted(seed: int) -> None:
    # The eigenvectors nearly coincide: V^T is eliminated otherwise than V.
    torch.manual_seed(seed + 3)
    x = torch.randn(3, 3)
    report, _ = watched(linalg.eigvals, x.triu() + 1e-4 * x)
    assert report.wrong == ()


@pytest.mark.parametrize("seed", range(20))
def test_a_complex_number_is_made_real_before_it_is_inverted(seed: int) -> None:
    torch.manual_seed(seed)
    report, _ = watched(linalg.pinv, torch.randn(1, 1, dtype=torch.complex64))
    assert report.verdict is gw.Verdict.AGREES, str(report)
