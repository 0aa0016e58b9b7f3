"""Factors of matrices: what moves the matrix moves them no further than the bound says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import linalg

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.bounded.orthogonal import DOUBT
from gradwitness.engine.floats import Arithmetic
from gradwitness.rules.kernel_ops import determinant, solved
from gradwitness.rules.linalg.factor_dispatch import (
    cholesky_factor,
    eliminated,
    exponential,
    orthogonal_factors,
    over_gaps,
    pseudoinverse,
    singular_factors,
    spectrum,
)

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion


ARITHMETIC = Arithmetic.fused("float32")
# The error of one rounding of numbers of size 1.
UNIT = 2.0**-24


def bounded(value: Any, error: Any = None) -> Any:
    return Bounded(np.asarray(value, dtype=np.float64), ARITHMETIC, error, error)


def matrix(seed: int, n: int = 4) -> Any:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (n, n)) + np.eye(n)


def definite(seed: int, n: int = 4) -> Any:
    drawn = matrix(seed, n)
    return drawn @ drawn.T


def changes(seed: int, size: float, n: int, symmetric: bool) -> Any:
    """Changes of every number by so much, of random signs."""
    signs = np.sign(np.random.default_rng(seed).standard_normal((20, n, n)))
    return size * (np.tril(signs) + np.swapaxes(np.tril(signs, -1), -1, -2) if symmetric else signs)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("seed", range(5))
def test_cholesky_factors_of_all_matrices_near_are_in_the_bound(seed: int, size: float) -> None:
    A = definite(seed)
    found: Any = cholesky_factor(bounded(A, np.full(A.shape, size)))
    moved = np.linalg.cholesky(A + changes(seed, size, 4, True)) - found.value
    used = np.max(np.abs(moved), axis=0)[np.tri(4, dtype=bool)]
    bound = found.rigorous[np.tri(4, dtype=bool)]
    assert np.all(used <= bound)
    assert np.isinf(bound).all() or np.max(used / bound) > 0.05
    assert np.isfinite(bound).all() or size == 1e-2
    assert not np.any(np.triu(found.rigorous, 1))


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e-2])
@pytest.mark.parametrize("seed", range(5))
def test_triangular_factors_of_all_matrices_near_are_in_the_bound(seed: int, size: float) -> None:
    A = matrix(seed)
    found: Any = eliminated(bounded(A, np.full(A.shape, size)))
    moved = eliminated(A + changes(seed, size, 4, False))
    for near, factor, half in zip(
        moved, found, (np.tri(4, k=-1), 1 - np.tri(4, k=-1)), strict=True
    ):
        used = np.max(np.abs(near - factor.value), axis=0)[half > 0]
        bound = factor.rigorous[half > 0]
        assert np.all(used <= bound)
        assert np.isinf(bound).all() or np.max(used / bound) > 0.05
        assert np.isfinite(bound).all() or size == 1e-2
        assert not np.any(factor.rigorous[half == 0])


def test_a_matrix_that_rounding_could_make_indefinite_has_no_bound() -> None:
    found: Any = cholesky_factor(bounded([[1.0, 1.0], [1.0, 1.0 + UNIT]]))
    np.testing.assert_array_equal(found.rigorous, [[np.inf, 0.0], [np.inf, np.inf]])


def test_a_matrix_that_is_indefinite_is_not_judged(snapshot: SnapshotAssertion) -> None:
    with pytest.raises(NotImplementedError) as error:
        cholesky_factor(bounded([[1.0, 2.0], [2.0, 1.0]]))
    assert str(error.value) == snapshot


@pytest.mark.parametrize(
    "judge",
    [
        lambda A: eliminated(A),
        lambda A: solved(A, bounded(np.eye(2))),
        lambda A: solved(A, bounded(np.eye(2)), triangular=True),
    ],
)
def test_a_matrix_that_is_singular_is_not_judged(judge: Any, snapshot: SnapshotAssertion) -> None:
    with pytest.raises(NotImplementedError) as error:
        judge(bounded([[0.0, 1.0], [0.0, 0.0]]))
    assert str(error.value) == snapshot


def test_determinant_of_a_singular_matrix_has_a_bound_and_its_sign_and_logarithm_none() -> None:
    singular = [[1.0, 2.0], [2.0, 4.0]]
    sign, logarithm, value = determinant(bounded([singular, matrix(0, 2)]))
    assert np.isinf(sign.rigorous[0])
    assert np.isinf(logarithm.rigorous[0])
    # Elimination of the rows (2, 4), (1, 2): |L| |U| is (2, 4), (1, 4); D is two roundings of it.
    grown = (np.sqrt(5) + 2 * UNIT * np.sqrt(5)) * (np.sqrt(20) + 2 * UNIT * np.sqrt(20)) - 10
    assert value.value[0] == 0
    assert grown / 2 < value.rigorous[0] < 2 * grown
    assert sign.rigorous[1] == 0
    assert np.isfinite([logarithm.rigorous[1], value.rigorous[1]]).all()


@pytest.mark.parametrize("seed", range(5))
def test_determinants_of_all_matrices_near_a_singular_one_are_in_the_bound(seed: int) -> None:
    A = matrix(seed, 3)
    A[2] = A[0] + A[1]
    *_, value = determinant(bounded(A, np.full(A.shape, 1e-3)))
    moved = np.linalg.det(A + changes(seed, 1e-3, 3, False))
    assert np.max(np.abs(moved - value.value)) <= value.rigorous < 0.1


def recorded(A: Any) -> tuple[Any, Any]:
    values, vectors = np.linalg.eigh(A)
    return values, vectors


def test_any_basis_of_the_vectors_of_one_value_is_taken() -> None:
    turned = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    values, vectors = spectrum(
        bounded(np.diag([1.0, 1.0, 2.0])), values=np.array([1.0, 1.0, 2.0]), vectors=turned
    )
    np.testing.assert_array_equal(vectors.value, turned)
    # Two sweeps of rotations for two values, one reflection from either side of 3 + 3 roundings.
    assert values.rigorous[0] == pytest.approx((2 * 6 + 24) * UNIT * np.sqrt(6), rel=1e-4)
    # Of the first number 0.6 a third counts of twice that, and of 0.8, which is in its row.
    assert vectors.rigorous[0, 0] == pytest.approx((2 * 6 + 24) * UNIT / 0.4, rel=1e-4)


@pytest.mark.parametrize("fault", ["turned", "longer", "exchanged", "nan"])
def test_vectors_that_are_none_are_replaced_by_the_witness_s_own(fault: str) -> None:
    A = definite(0)
    values, vectors = recorded(A)
    wrong = vectors.copy()
    if fault == "turned":
        wrong[:, :2] = vectors[:, :2] @ [[0.8, -0.6], [0.6, 0.8]]
    elif fault == "longer":
        wrong[:, 1] *= 1 + 1e-4
    elif fault == "exchanged":
        wrong[:, [0, 1]] = vectors[:, [1, 0]]
    else:
        wrong[0, 0] = np.nan
    _, found = spectrum(bounded(A), values=values, vectors=wrong)
    assert not np.array_equal(found.value, wrong)
    assert not np.all(np.abs(found.value - wrong) <= found.rigorous)


def test_vectors_between_what_is_probable_and_what_is_possible_are_not_judged() -> None:
    A = definite(0, 12)
    values, vectors = recorded(A)
    # 20 reflections of 15 roundings, and 132: 432, of which 125 = 6 * sqrt(432) are probable.
    for off, verdict in ((80, "taken"), (300, "doubt"), (1000, "refuted")):
        wrong = vectors * (1 + 1.5 * off * UNIT)
        if verdict == "doubt":
            with pytest.raises(NotImplementedError, match=DOUBT):
                spectrum(bounded(A), values=values, vectors=wrong)
            continue
        _, found = spectrum(bounded(A), values=values, vectors=wrong)
        assert np.array_equal(found.value, wrong) == (verdict == "taken")


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("wrong", [False, True])
def test_singular_vectors_are_taken_if_they_satisfy_the_equations(
    shape: tuple[int, int], full: bool, wrong: bool
) -> None:
    A = np.random.default_rng(0).standard_normal(shape)
    U, S, Vh = np.linalg.svd(A, full_matrices=full)
    # Both signs of a pair may change, but not one of them alone.
    U[:, 0] *= -1
    Vh[0] *= 1 if wrong else -1
    left, values, right = singular_factors(bounded(A), U=U, S=S, Vh=Vh)
    taken = np.array_equal(left.value, U) and np.array_equal(right.value, Vh)
    assert taken is not wrong
    np.testing.assert_allclose(values.value, S, rtol=1e-12)
    assert np.all(values.rigorous > 0)


@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
@pytest.mark.parametrize("wrong", [False, True])
def test_an_orthogonal_factor_and_a_triangle_are_taken_if_their_product_is_right(
    shape: tuple[int, int], mode: Any, wrong: bool
) -> None:
    A = np.random.default_rng(0).standard_normal(shape)
    Q, R = np.linalg.qr(A, mode="complete" if mode == "complete" else "reduced")
    R = R * (1 + 1e-4 * wrong)
    Q, R = -Q if mode != "r" else np.zeros(0), -R
    made, triangle = orthogonal_factors(bounded(A), Q=Q, R=R)
    assert np.array_equal(triangle.value, R) is not wrong
    if wrong:
        assert np.max(np.abs(triangle.value - R) - triangle.rigorous) > 0
        np.testing.assert_allclose(triangle.value, R, rtol=1.1e-4)
    if mode != "r":
        np.testing.assert_allclose(made.value, Q, atol=1e-12)


@pytest.mark.parametrize("gap", [0.0, UNIT, 8 * UNIT])
def test_a_gap_that_one_rounding_could_close_is_refused(
    gap: float, snapshot: SnapshotAssertion
) -> None:
    values, X = bounded([1.0, 1.0 + gap]), np.array([[0.0, 1.0], [-1.0, 0.0]])
    if gap > 4 * UNIT:
        found = over_gaps(bounded(X), values=values, wanted=np.array(True))
        np.testing.assert_array_equal(found.value, np.abs(X) / gap)
        return
    with pytest.raises(NotImplementedError) as error:
        over_gaps(bounded(X), values=values, wanted=np.array(True))
    assert str(error.value) == snapshot
    found = over_gaps(bounded(X), values=values, wanted=np.array(False))
    np.testing.assert_array_equal(found.value, 0 * X)


@pytest.mark.parametrize("factor", [cholesky_factor, eliminated])
@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)])
def test_matrices_without_elements_have_factors(factor: Any, shape: tuple[int, ...]) -> None:
    made = factor(bounded(np.zeros(shape)))
    for one in made if isinstance(made, tuple) else (made,):
        assert one.shape == shape


@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)])
def test_determinants_of_matrices_without_elements(shape: tuple[int, ...]) -> None:
    sign, logarithm, value = determinant(bounded(np.zeros(shape)))
    # The empty product.
    for found, expected in ((sign, 1.0), (logarithm, 0.0), (value, 1.0)):
        np.testing.assert_array_equal(found.value, np.full(shape[:-2], expected))


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("norm", [1e-8, 1e-5, 1e-3, 0.03, 0.4, 1.0, 2.5, 20.0])
def test_exponential_of_a_rotation_is_in_its_bound_and_no_other_is(norm: float, kind: str) -> None:
    A = norm * np.array([[0.0, -1.0], [1.0, 0.0]])
    found: Any = exponential(Bounded(A, Arithmetic.fused(kind)))
    c, s = np.cos(norm), np.sin(norm)
    off = np.abs(found.value - [[c, -s], [s, c]])
    assert np.all(off <= found.rigorous)
    assert np.all(found.probable <= found.rigorous)
    # Cancellation: the bound belongs to exp(|A|), which has cosh and sinh in these places.
    unit = Arithmetic.fused(kind).unit
    squarings = max(1.0, 2 * norm)
    assert np.max(found.rigorous) < 1000 * unit * squarings * np.cosh(norm)
    assert np.min(found.rigorous.diagonal()) >= 4 * unit


def test_nothing_is_added_where_no_power_leads() -> None:
    found: Any = exponential(bounded([[0.5, 2.0], [0.0, -1.0]]))
    assert found.value[1, 0] == found.rigorous[1, 0] == 0
    assert np.all(found.rigorous.diagonal() > 0)


@pytest.mark.parametrize("seed", range(5))
def test_exponentials_of_all_matrices_near_are_in_the_bound(seed: int) -> None:
    A = matrix(seed, 3)
    found: Any = exponential(bounded(A, np.full(A.shape, 1e-2)))
    moved = linalg.expm(A + changes(seed, 1e-2, 3, False)) - found.value
    used = np.max(np.abs(moved), axis=0) / found.rigorous
    assert 0.3 < np.max(used) <= 1


@pytest.mark.parametrize("size", [1e-3, 0.03, 0.4])
def test_powers_that_the_series_leaves_out_are_in_the_bound(size: float) -> None:
    # Nothing but the 11th power leads from the first row to the last column.
    found: Any = exponential(bounded(size * np.eye(12, k=1)))
    assert found.value[0, 11] == pytest.approx(size**11 / math.factorial(11))
    assert found.value[0, 11] <= found.rigorous[0, 11] < 1e-9


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_pseudoinverses_of_all_matrices_near_are_in_the_bound(shape: tuple[int, int]) -> None:
    drawn = np.random.default_rng(0)
    A = drawn.uniform(-0.3, 0.3, shape) + 2 * np.eye(*shape)
    error = np.full(shape, 1e-3)
    found: Any = pseudoinverse(bounded(A, error), atol=None, rtol=None)
    signs = np.sign(drawn.standard_normal((50, *shape)))
    moved = np.linalg.pinv(A + 1e-3 * signs) - found.value
    used = np.max(np.sqrt(np.sum(moved**2, axis=(1, 2)))) / found.rigorous.flat[0]
    assert 0.2 < used <= 1
    np.testing.assert_allclose(found.value, np.linalg.pinv(A), rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_pseudoinverses_of_rank_2_near_are_in_the_bound(shape: tuple[int, int]) -> None:
    drawn = np.random.default_rng(0)
    rank_2 = drawn.standard_normal((shape[0], 2)) @ drawn.standard_normal((2, shape[1]))
    limits: Any = {"atol": np.asarray(0.1), "rtol": np.asarray(0.0)}
    found: Any = pseudoinverse(bounded(rank_2, np.full(shape, 1e-4)), **limits)
    signs = np.sign(drawn.standard_normal((50, *shape)))
    u, s, vh = np.linalg.svd(rank_2 + 1e-4 * signs, full_matrices=False)
    inverse = np.where(s > 0.1, 1 / s, 0)[:, :, None] * np.swapaxes(u, 1, 2)
    moved = np.swapaxes(vh, 1, 2) @ inverse - found.value
    used = np.max(np.sqrt(np.sum(moved**2, axis=(1, 2)))) / found.rigorous.flat[0]
    assert 0.05 < used <= 1
    np.testing.assert_allclose(found.value, np.linalg.pinv(rank_2, rcond=1e-6), atol=1e-12)


def test_values_that_are_left_out_turn_the_others_vectors() -> None:
    limits: Any = {"atol": np.asarray(0.5), "rtol": np.asarray(0.0)}
    found: Any = pseudoinverse(bounded(np.diag([0.6, 0.4]), np.full((2, 2), 0.02)), **limits)
    # Of a symmetric matrix: by an angle of which the tangent is 0.04 / 0.2, halved.
    values, v = np.linalg.eigh([[0.6, 0.02], [0.02, 0.4]])
    moved = np.outer(v[:, 1], v[:, 1]) / values[1] - found.value
    assert 0.2 < np.linalg.norm(moved) <= found.rigorous[0, 0]


LOW_RANK: Any = [
    ([1.0, 0.0], {}),
    ([1.0, 1e-7], {}),
    ([1.0, 0.5], {"atol": np.asarray(0.5)}),
    ([4.0, 2.0], {"rtol": np.asarray(0.5), "atol": np.asarray(0.0)}),
]


@pytest.mark.parametrize(("values", "limits"), LOW_RANK)
def test_a_pseudoinverse_whose_rank_rounding_decides_is_not_judged(
    values: Any, limits: Any, snapshot: SnapshotAssertion
) -> None:
    limits = {"atol": None, "rtol": None, **limits}
    with pytest.raises(NotImplementedError) as error:
        pseudoinverse(bounded(np.diag(values)), **limits)
    assert str(error.value) == snapshot
    # Nor if it took the smaller value to be none at the limit.
    recorded = np.diag([1 / values[0], 1 / max(values[1], 1e-9)])
    with pytest.raises(NotImplementedError, match="may be rank-deficient"):
        pseudoinverse(bounded(np.diag(values)), **limits, recorded=bounded(recorded))


@pytest.mark.parametrize(("values", "limits"), LOW_RANK[:2])
def test_which_values_were_left_out_is_told_by_the_recorded_pseudoinverse(
    values: Any, limits: Any
) -> None:
    limits = {"atol": None, "rtol": None, **limits}
    right = np.diag([1 / values[0], 0.0])
    found: Any = pseudoinverse(bounded(np.diag(values)), **limits, recorded=bounded(right))
    np.testing.assert_array_equal(found.value, right)
    assert 0 < np.max(found.rigorous) < 1e-3
    # Another recorded one changes nothing but that.
    wrong = pseudoinverse(bounded(np.diag(values)), **limits, recorded=bounded(2 * right))
    np.testing.assert_array_equal(wrong.value, right)


def test_no_value_is_larger_than_the_largest() -> None:
    found: Any = pseudoinverse(bounded(np.eye(3)), atol=None, rtol=np.asarray(1.0))
    np.testing.assert_array_equal(found.value, np.zeros((3, 3)))
    np.testing.assert_array_equal(found.rigorous, 0)


def test_an_exponential_that_is_not_finite_is_not_judged(snapshot: SnapshotAssertion) -> None:
    with pytest.raises(NotImplementedError) as error:
        exponential(bounded([[np.inf, 0.0], [0.0, 0.0]]))
    assert str(error.value) == snapshot
