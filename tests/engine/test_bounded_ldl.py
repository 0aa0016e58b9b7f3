"""Symmetric factors: right ones are taken, faults that show are not, and solutions are bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import lapack

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.bounded.orthogonal import DOUBT
from gradwitness.engine.floats import Arithmetic
from gradwitness.rules.linalg.ldl import ldl_solve, symmetric_factors

ARITHMETIC = Arithmetic.fused("float32")


def bounded(value: Any) -> Any:
    return Bounded(np.asarray(value), ARITHMETIC)


def drawn(seed: int, n: int, kind: str) -> Any:
    """A symmetric matrix with a small diagonal, so that blocks of two are needed."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n)).astype(np.float32)
    if kind != "real":
        A = A + 1j * rng.standard_normal((n, n)).astype(np.float32)
    A = A + (A.conj().T if kind == "hermitian" else A.T)
    return np.where(np.eye(n, dtype=bool), A / 64, A)


def recorded(A: Any, kind: str) -> tuple[Any, Any]:
    """LAPACK's, of single precision, with row numbers from 1 and negative ones for blocks of 2."""
    factor = {"real": lapack.ssytrf, "complex": lapack.csytrf, "hermitian": lapack.chetrf}[kind]
    LD, pivots, _ = factor(A.astype(np.complex64 if kind != "real" else np.float32), lower=1)
    return np.tril(LD).astype(np.float64 if kind == "real" else np.complex128), pivots


KINDS = ["real", "complex", "hermitian"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 5, 12])
@pytest.mark.parametrize("seed", range(5))
def test_those_of_single_precision_are_taken_and_solved_with(seed: int, n: int, kind: str) -> None:
    A = drawn(seed, n, kind)
    LD, pivots = recorded(A, kind)
    found: Any = symmetric_factors(bounded(A), LD=LD, pivots=pivots, hermitian=kind == "hermitian")
    np.testing.assert_array_equal(found.value, LD)
    B = np.random.default_rng(seed).standard_normal((n, 2))
    x: Any = ldl_solve.function(
        bounded(LD), bounded(B), pivots=pivots, hermitian=kind == "hermitian"
    )
    # What LD is made of is A, but for its own rounding.
    near = np.linalg.solve(A.astype(np.complex128), B)
    assert np.all(np.abs(x.value - near) <= 2 * x.rigorous)
    assert n > 5 or np.max(x.rigorous) < 0.1 * np.max(np.abs(near))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_fault_as_large_as_is_said_to_show_is_refuted(seed: int, kind: str) -> None:
    A = drawn(seed, 5, kind)
    LD, pivots = recorded(A, kind)
    form: Any = {"pivots": pivots, "hermitian": kind == "hermitian"}
    bound: Any = symmetric_factors(bounded(A), LD=LD, **form).rigorous
    assert np.all(np.isfinite(bound))
    for at in zip(*np.tril_indices(5), strict=True):
        wrong = LD.copy()
        wrong[at] += 2 * bound[at]
        found: Any = symmetric_factors(bounded(A), LD=wrong, **form)
        assert np.abs(found.value - wrong)[at] > found.rigorous[at]
    wrong = LD.copy()
    wrong[0, 1] = 1e-6
    found = symmetric_factors(bounded(A), LD=wrong, **form)
    assert found.value[0, 1] == found.rigorous[0, 1] == 0
    other = np.arange(1, 6)
    assert not np.array_equal(pivots, other)
    found = symmetric_factors(bounded(A), LD=LD, **(form | {"pivots": other}))
    assert not np.array_equal(found.value, LD)


def test_between_what_is_probable_and_what_is_possible_is_not_judged() -> None:
    A = drawn(0, 5, "real")
    LD, pivots = recorded(A, "real")
    found: Any = symmetric_factors(bounded(A), LD=LD, pivots=pivots, hermitian=False)
    wrong = LD.copy()
    wrong[0, 0] += (found.probable[0, 0] + found.rigorous[0, 0]) / 4
    with pytest.raises(NotImplementedError, match=DOUBT):
        symmetric_factors(bounded(A), LD=wrong, pivots=pivots, hermitian=False)
