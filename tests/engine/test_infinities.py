"""Which infinities have the bound 0: those that infinite operands hand on, whatever the errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import special

from engine.emulation import FORMATS, bounded

if TYPE_CHECKING:
    from collections.abc import Callable

INF = math.inf


def bound(result: Any) -> list[float]:
    error = np.zeros(result.shape) if result.rigorous is None else result.rigorous
    return list(np.ravel(error))


def one(x: float, e: float = 0.0) -> Any:
    return bounded("float32", [x], [e])


@pytest.mark.parametrize(
    ("result", "value"),
    [
        (lambda: one(-INF) + one(3, 0.1), -INF),
        (lambda: one(0, 0.1) - one(INF), -INF),
        (lambda: one(3, 0.1) * one(-INF), -INF),
        (lambda: one(0.3, 0.1) * -INF, -INF),
        (lambda: one(-INF) * 0.5, -INF),
        (lambda: one(INF) / one(-2, 0.1), -INF),
        (lambda: -one(INF), -INF),
        (lambda: np.abs(one(-INF)), INF),
        (lambda: np.exp(one(INF)), INF),
        (lambda: np.expm1(one(INF)), INF),
        (lambda: np.log(one(INF)), INF),
        (lambda: np.log1p(one(INF)), INF),
        (lambda: np.sqrt(one(INF)), INF),
        (lambda: np.square(one(-INF)), INF),
        (lambda: np.power(one(INF), 3), INF),
        (lambda: np.minimum(one(-INF), one(3, 0.1)), -INF),
        (lambda: np.sum(bounded("float32", [1, -INF, 2], [0.1, 0, 0.1])), -INF),
        (lambda: np.max(bounded("float32", [1, INF, 2], [0.1, 0, 0.1])), INF),
        (lambda: np.max(one(-INF)), -INF),
        (lambda: np.prod(bounded("float32", [2, -INF, 3])), -INF),
        (lambda: np.sort(bounded("float32", [1, -INF], [0.1, 0]), axis=0)[:1], -INF),
        (lambda: np.cumsum(bounded("float32", [1, -INF, 2], [0.1, 0, 0.1]), axis=0)[2:], -INF),
        (lambda: bounded("float32", [[1, -INF]]) @ bounded("float32", [[2], [3]]), -INF),
        (lambda: np.where([True], -INF, one(3, 0.1)), -INF),
        (lambda: np.maximum(one(1, 0.5), INF), INF),
        # Exact operands leave no doubt either.
        (lambda: one(1) / one(0), INF),
        (lambda: np.log(one(0)), -INF),
        (lambda: one(1e308) * one(-1e308), -INF),
        (lambda: one(1e308) * 4, INF),
        (lambda: one(1.5e308) + one(1.5e308), INF),
        (lambda: np.exp(one(1000)), INF),
        (lambda: np.power(one(0), -1), INF),
        # And what an infinity makes exactly.
        (lambda: np.exp(one(-INF)), 0.0),
        (lambda: one(3, 0.1) / one(-INF), 0.0),
        (lambda: np.tanh(one(-INF)) + 1, 0.0),
    ],
)
def test_infinities_that_are_certain(result: Callable[[], Any], value: float) -> None:
    made = result()
    assert np.ravel(made.value).tolist() == [value]
    assert bound(made)[0] <= (0.0 if value else 1e-6)


@pytest.mark.parametrize(
    "result",
    [
        # Overflow on the way, which another order of summation may avoid.
        lambda: np.sum(bounded("float32", [1.5e308, 1.5e308])),
        lambda: np.prod(bounded("float32", [1e308, 1e308])),
        lambda: bounded("float32", [[1e308, 1e308]]) @ bounded("float32", [[2], [3]]),
        # An error may make something else of them.
        lambda: one(1) / one(0, 0.1),
        lambda: np.log(one(0, 0.1)),
        lambda: np.exp(one(1000, 1)),
        lambda: one(0.1, 0.2) * one(INF),
        lambda: one(INF) / one(0.1, 0.2),
        lambda: one(INF, 0.1) + one(1),
        lambda: one(-INF) + one(1, INF),
        lambda: np.sum(bounded("float32", [1, -INF], [INF, 0])),
        lambda: np.prod(bounded("float32", [0.1, -INF], [0.2, 0])),
        lambda: bounded("float32", [[1, -INF]], [[0.1, 0]]) @ bounded("float32", [[2], [3]]),
    ],
)
def test_what_else_is_infinite_has_no_bound(result: Callable[[], Any]) -> None:
    made = result()
    assert np.isinf(made.value).all()
    assert bound(made) == [INF]


@pytest.mark.parametrize("dtype", FORMATS)
def test_numbers_beside_an_infinity_keep_their_bounds(dtype: str) -> None:
    x, e = [1.5, -INF, -2.0], [0.0, 0.0, 0.0]
    for made, without in (
        (bounded(dtype, x) + 0.3, bounded(dtype, [1.5, -2.0]) + 0.3),
        (np.exp(bounded(dtype, x)), np.exp(bounded(dtype, [1.5, -2.0]))),
        (bounded(dtype, x, e) * 3, bounded(dtype, [1.5, -2.0]) * 3),
        (special.erf(bounded(dtype, x)), special.erf(bounded(dtype, [1.5, -2.0]))),
    ):
        assert bound(made)[::2] == bound(without)


@pytest.mark.parametrize("shape", [(2, 3), (3,)])
def test_a_matrix_product_hands_on_by_row_and_column(shape: tuple[int, ...]) -> None:
    left = np.ones(shape)
    left[..., 0] = [INF, 1][: left[..., 0].size] if left.ndim == 2 else INF
    for right in (np.ones((3, 2)), np.ones(3)):
        made = bounded("float32", left) @ bounded("float32", right)
        infinite = np.isinf(made.value)
        assert infinite.any()
        assert np.ravel(made.rigorous)[np.ravel(infinite)].tolist() == [0] * infinite.sum()
        assert np.all(np.ravel(made.rigorous)[~np.ravel(infinite)] < 1e-5)


def test_softmax_over_a_masked_row_has_bounds_and_a_fully_masked_one_is_nan() -> None:
    x = bounded("float32", [[1.0, -INF, 3.0], [-INF, -INF, -INF]])
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    y = e / np.sum(e, axis=1, keepdims=True)
    assert y.value[0, 1] == 0
    assert y.rigorous[0, 1] == 0
    assert np.all(y.rigorous[0] < 1e-5)
    assert np.isnan(y.value[1]).all()
