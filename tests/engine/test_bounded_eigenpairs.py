"""Eigenvalues and eigenvectors of any matrix: right ones are taken, wrong ones are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import linalg

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.bounded.orthogonal import DOUBT
from gradwitness.engine.floats import Arithmetic
from gradwitness.rules.linalg.factor_dispatch import eigenpairs

ARITHMETIC = Arithmetic.fused("float32")


def bounded(value: Any) -> Any:
    return Bounded(np.asarray(value), ARITHMETIC)


def recorded(A: Any) -> tuple[Any, Any]:
    """LAPACK's, of single precision."""
    values, vectors = linalg.eig(A.astype(np.complex64 if np.iscomplexobj(A) else np.float32))
    return values.astype(np.complex128), vectors.astype(np.complex128)


def drawn(seed: int, n: int, kind: str) -> Any:
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n)).astype(np.float32).astype(np.float64)
    if kind == "complex":
        A = A + 1j * rng.standard_normal((n, n)).astype(np.float32)
    elif kind == "nearly triangular":
        A = np.triu(A) + 1e-5 * A
    return A


KINDS = ["real", "complex", "nearly triangular"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 5, 12])
@pytest.mark.parametrize("seed", range(5))
def test_those_of_single_precision_are_taken(seed: int, n: int, kind: str) -> None:
    A = drawn(seed, n, kind)
    values, vectors = recorded(A)
    found: Any = eigenpairs(bounded(A), values=values, vectors=vectors)
    np.testing.assert_array_equal(found[0].value, values)
    np.testing.assert_array_equal(found[1].value, vectors)
    alone: Any = eigenpairs(bounded(A), values=values, vectors=np.zeros(0))
    np.testing.assert_array_equal(alone[0].value, values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("at", ["a value", "values alone", "a vector", "a length"])
def test_a_fault_as_large_as_is_said_to_show_is_refuted(seed: int, kind: str, at: str) -> None:
    A = drawn(seed, 5, kind)
    values, vectors = recorded(A)
    first, second = eigenpairs(bounded(A), values=values, vectors=vectors)
    wrong_values, wrong_vectors = values.copy(), vectors.copy()
    k = seed
    if at == "a length":
        wrong_vectors[:, k] *= 1 + 2 * second.rigorous[0, k]
    elif at == "a vector":
        # Into the direction that shows least: of those at right angles to it.
        least = np.linalg.svd(A - values[k] * np.eye(5))[2][-2].conj()
        wrong_vectors[:, k] += 2 * np.sqrt(5) * second.rigorous[0, k] * least
    else:
        wrong_values[k] += 2 * first.rigorous[k]
    kept = np.zeros(0) if at == "values alone" else wrong_vectors
    again: Any = eigenpairs(bounded(A), values=wrong_values, vectors=kept)
    if at in ("a value", "values alone"):
        assert np.any(np.abs(again[0].value - wrong_values) > again[0].rigorous)
    else:
        assert np.any(np.abs(again[1].value - wrong_vectors) > again[1].rigorous)


def test_one_pair_for_two_is_refuted_and_vectors_that_coincide_are_not_judged() -> None:
    A = drawn(0, 5, "real")
    values, vectors = recorded(A)
    twice = np.array([0, 0, 2, 3, 4])
    found: Any = eigenpairs(bounded(A), values=values[twice], vectors=np.zeros(0))
    assert np.any(np.abs(found[0].value - values[twice]) > found[0].rigorous)
    with pytest.raises(NotImplementedError, match="nearly coincide"):
        eigenpairs(bounded(A), values=values[twice], vectors=vectors[:, twice])
    jordan = np.array([[1.0, 1.0], [0.0, 1.0]])
    with pytest.raises(NotImplementedError, match="nearly coincide"):
        eigenpairs(bounded(jordan), values=np.ones(2) + 0j, vectors=recorded(jordan)[1])


def test_between_what_is_probable_and_what_is_possible_is_not_judged() -> None:
    A = drawn(0, 5, "real")
    values, vectors = recorded(A)
    first: Any = eigenpairs(bounded(A), values=values, vectors=vectors)[0]
    assert np.max(first.probable) < 0.9 * np.min(first.rigorous)
    off = (first.probable + first.rigorous) / 2 * np.array([1, -1, 0, 0, 0])
    with pytest.raises(NotImplementedError, match=DOUBT):
        eigenpairs(bounded(A), values=values + off, vectors=vectors)


def test_a_matrix_without_rows_has_none() -> None:
    empty = np.zeros((2, 0, 0))
    found: Any = eigenpairs(bounded(empty), values=np.zeros((2, 0)) + 0j, vectors=empty + 0j)
    assert [np.shape(x) for x in found] == [(2, 0), (2, 0, 0)]
