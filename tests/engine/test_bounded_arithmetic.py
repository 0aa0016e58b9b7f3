"""Arithmetic and sums: low precision stays within the bound of the exact result."""

from __future__ import annotations

import itertools
import math
import operator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.emulation import (
    DIGITS,
    FORMATS,
    REPRODUCIBLE,
    SMALLEST,
    bounded,
    exact,
    holds,
    low_sum,
    numbers,
    operands,
    orders,
    to,
    unit,
)
from gradwitness._errors import RuleError
from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from syrupy.assertion import SnapshotAssertion

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "maximum": max,
    "minimum": min,
}
DRAWS = st.data()


def columns(triples: list[tuple[float, float, float]]) -> tuple[Any, Any, Any]:
    low, value, error = np.array(triples, np.float64).T
    return low, value, error


@pytest.mark.parametrize(
    ("dtype", "lost"), [("bfloat16", True), ("float16", False), ("float32", False)]
)
@pytest.mark.parametrize("error", [None, 2.0**-140])
def test_only_bfloat16_kernels_may_read_subnormal_numbers_as_zero(
    dtype: str, lost: bool, error: float | None
) -> None:
    # Two terms below the smallest normal number; what underflow alone may lose is one such number.
    small = 0.75 * SMALLEST[dtype]
    for arithmetic in (Arithmetic.stepwise(dtype), Arithmetic.fused(dtype)):
        x, large = np.full((1, 2), small), np.full((2, 1), 2.0**20)
        tier = None if error is None else np.full(x.shape, error)
        given: Any = Bounded(x, arithmetic, tier, tier)
        for made in (given @ large, large.T @ given.T, np.sum(given, axis=1)):
            assert made.rigorous is not None
            assert (made.rigorous >= made.value).all() == lost
            assert (made.probable >= made.value).all() == lost


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("name", BINARY)
@REPRODUCIBLE
@given(data=DRAWS)
def test_binary_operations_are_sound(name: str, dtype: str, data: st.DataObject) -> None:
    ufunc, run = getattr(np, name), BINARY[name]
    pairs = data.draw(st.lists(st.tuples(operands(dtype), operands(dtype)), min_size=1, max_size=6))
    # Quotients by nothing are a test of their own.
    pairs = [pair for pair in pairs if name != "divide" or (pair[1][0] and pair[1][1])]
    if not pairs:
        return
    low_a, a, error_a = columns([pair[0] for pair in pairs])
    low_b, b, error_b = columns([pair[1] for pair in pairs])
    result = ufunc(bounded(dtype, a, error_a), bounded(dtype, b, error_b))
    with np.errstate(all="ignore"):
        assert np.array_equal(result.value, ufunc(a, b), equal_nan=True)
        low = to(dtype, ufunc(low_a, low_b))
        if dtype == "float32":
            genuine = ufunc(low_a.astype(np.float32), low_b.astype(np.float32))
            assert np.array_equal(genuine.astype(np.float64), low, equal_nan=True)
    holds(result, low, [run(exact(x), exact(y)) for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("dtype", FORMATS)
def test_cancellation_rounds_what_is_left_of_the_operands_errors(dtype: str) -> None:
    # 1 + e minus 1, in a format where e rounds up: all that is left is error, and it is rounded
    # too. The bound has to grow by that rounding.
    u = unit(dtype)
    error = 1 + u
    result = bounded(dtype, [4.0], [error]) - np.array([4.0])
    low = to(dtype, np.array([error * (1 + u)]))
    assert result.value.tolist() == [0]
    assert result.rigorous is not None
    assert result.rigorous[0] >= error * (1 + u) >= low[0] * (1 - u)
    product = bounded(dtype, [0.0], [1.0]) * np.array([1.5])
    assert product.rigorous is not None
    assert product.rigorous[0] >= 1.5 * (1 + u)


@pytest.mark.parametrize("dtype", FORMATS)
@REPRODUCIBLE
@given(data=DRAWS, constant=st.floats(-1e4, 1e4) | st.integers(-(2**40), 2**40))
def test_constants_that_the_format_cannot_hold(
    dtype: str, data: st.DataObject, constant: float
) -> None:
    low, x, error = data.draw(operands(dtype, 100.0))
    held = float(to(dtype, constant))
    if not math.isfinite(held):
        return
    for ufunc, run in ((np.add, operator.add), (np.multiply, operator.mul)):
        result = ufunc(bounded(dtype, [x], [error]), constant)
        computed = to(dtype, ufunc(np.array([low]), held))
        holds(result, computed, [run(exact(x), Fraction(constant))])
    if held and constant:
        result = np.divide(bounded(dtype, [x], [error]), constant)
        true = exact(x) / Fraction(constant)
        holds(result, to(dtype, np.array([low / held])), [true])
        # As GPU kernels do it: by the reciprocal.
        reciprocal = float(to(dtype, 1 / held))
        if math.isfinite(reciprocal) and abs(reciprocal) >= SMALLEST[dtype]:
            holds(result, to(dtype, np.array([low * reciprocal])), [true])


@pytest.mark.parametrize("dtype", FORMATS)
def test_which_constants_are_exact(dtype: str) -> None:
    one = bounded(dtype, [1.0])
    digits = DIGITS[dtype]
    kept = [1.0, 0.5, 3, -7.0, 2**digits, 2.0**digits - 1, np.float32(1.5)]
    assert [(one + number).rigorous.tolist() for number in kept] == [
        [pytest.approx(abs(1 + number) * unit(dtype), rel=1e-6)] for number in kept
    ]
    for number in (0.1, 1 / 3, 2**digits + 1, np.float64(0.1)):
        lone: Any = np.where(np.array([False]), one, number)
        assert lone.rigorous == pytest.approx(float(number) * unit(dtype), rel=1e-6)


@pytest.mark.parametrize("dtype", [*FORMATS, "float64"])
@pytest.mark.parametrize(
    "step",
    [
        lambda x: x + 0,
        lambda x: 0.0 + x,
        lambda x: x - 0,
        lambda x: 2 * x,
        lambda x: x * 0.25,
        lambda x: x * 0,
        lambda x: x / 8,
        lambda x: x / 0.5,
        operator.neg,
        operator.pos,
        abs,
        lambda x: np.maximum(x, 0),
        lambda x: np.minimum(x, x),
        lambda x: np.sum(x[:, :1], axis=1),
        lambda x: x[:, :0] @ np.zeros((0, 2)),
    ],
)
def test_what_rounds_nothing_stays_exact(step: Callable[[Any], Any], dtype: str) -> None:
    x = bounded(dtype, [[1.0, -2.5, 3.0], [0.0, -0.125, 7.0]])
    assert step(x).is_exact


def test_a_scaling_that_underflows_is_not_exact() -> None:
    smallest = 2.0**-149
    for result in (bounded("float32", [smallest, 1.0]) * 0.5, bounded("float32", [smallest]) / 2):
        low = np.float32(smallest) * np.float32(0.5)
        assert low == 0
        assert result.rigorous is not None
        assert result.rigorous[0] >= smallest / 2
    assert (bounded("float32", [2.0**-126]) * 2.0**20).is_exact
    assert (bounded("float32", [2.0**-126]) / 2.0**-20).is_exact


def test_division_by_what_may_be_zero_has_no_bound() -> None:
    quotient = bounded("float32", [1.0, 1.0]) / bounded("float32", [1e-3, 1.0], [1e-3, 0.5])
    assert quotient.rigorous is not None
    assert quotient.rigorous[0] == math.inf
    # 1 / 0.5 is 1 away from 1 / 1, and is rounded.
    assert quotient.rigorous[1] == pytest.approx(1.0, rel=1e-6)
    assert (bounded("float32", [1.0]) / bounded("float32", [0.0])).value.tolist() == [math.inf]


def test_an_unbounded_error_stays_unbounded() -> None:
    endless = bounded("float32", [1.0], [math.inf])
    for result in (endless * 0, endless * np.zeros(1), endless + 1, endless * endless, -endless):
        assert result.rigorous == np.inf


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("order", list(orders(0)))
@REPRODUCIBLE
@given(data=DRAWS, seed=st.integers(0, 99))
def test_sums_are_sound_in_every_order(
    dtype: str, order: str, data: st.DataObject, seed: int
) -> None:
    drawn = data.draw(st.lists(operands(dtype, 1000.0), min_size=1, max_size=12))
    # Half of the terms again with the other sign, so that much cancels.
    drawn += [(-low, -x, error) for low, x, error in drawn[::2]]
    low, value, error = columns(drawn)
    result = np.sum(bounded(dtype, value, error), axis=(0,))
    assert result.value == pytest.approx(math.fsum(value), rel=1e-9, abs=1e-9)
    holds(result, low_sum(dtype, low, order, seed), [sum(map(exact, value), Fraction(0))])


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("order", list(orders(0)))
@REPRODUCIBLE
@given(data=DRAWS, inner=st.integers(1, 9))
def test_products_of_matrices_are_sound_in_every_order(
    dtype: str, order: str, data: st.DataObject, inner: int
) -> None:
    entry = operands(dtype, 100.0)
    low_a, a, error_a = columns(data.draw(st.lists(entry, min_size=inner, max_size=inner)))
    low_b, b, error_b = columns(data.draw(st.lists(entry, min_size=inner, max_size=inner)))
    # A second column that cancels against the first.
    other = np.concatenate([low_b[1:], -low_b[:1]])
    result = bounded(dtype, a[None], error_a[None]) @ bounded(
        dtype, np.stack([b, other], 1), np.stack([error_b, np.zeros(inner)], 1)
    )
    assert result.shape == (1, 2)
    low = []
    for column in (low_b, other):
        # 16-bit products are exact in float32, float32 ones are rounded.
        products = to("float32", low_a * column)
        low.append(low_sum(dtype, products, order))
    true = [
        sum((exact(x) * exact(y) for x, y in zip(a, column, strict=True)), Fraction(0))
        for column in (b, other)
    ]
    holds(result, low, true)


def test_numpys_own_float32_stays_within() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-30, 1.0, 1e15):
        a = (rng.standard_normal((20, 300)) * scale).astype(np.float32)
        b = rng.standard_normal((300, 7)).astype(np.float32)
        product = bounded("float32", a) @ bounded("float32", b)
        total = np.sum(bounded("float32", a), axis=1)
        assert np.allclose(product.value, a.astype(float) @ b.astype(float), rtol=1e-15)
        for result, low in ((product, a @ b), (total, np.cumsum(a, axis=1)[:, -1])):
            assert result.probable is not None
            assert result.rigorous is not None
            error = np.abs(low.astype(float) - result.value)
            # Within the probable bound even, which is for terms of one sign, and 6 sigma.
            assert (error <= result.probable).all()
            assert error.max() > 0.002 * result.probable.max()
            assert (result.probable < result.rigorous).all()


def test_the_tiers_differ_for_long_reductions_only() -> None:
    ones = np.ones(10_000)
    for length, ratio in ((10, 1.0), (10_000, 6 / 100)):
        result = np.sum(bounded("float32", ones[:length]))
        assert result.probable == pytest.approx(ratio * result.rigorous, rel=1e-2)
        assert (result.probable is result.rigorous) is (ratio == 1)
    # And from there on they are carried side by side.
    later = (np.sum(bounded("float32", ones)) * 3.0 + 1)[None] @ np.ones((1, 2))
    assert later.rigorous is not None
    assert later.probable is not None
    assert (later.probable < 0.1 * later.rigorous).all()


def test_reductions_round_the_errors_of_their_terms_too() -> None:
    # The other side's terms may be 1, 1, 1: two sums of them are rounded, and each product.
    u = 2.0**-24
    zeros = bounded("float32", np.zeros(3), np.ones(3))
    assert np.sum(zeros).rigorous >= 3 * (1 + u) ** 2
    assert (zeros @ bounded("float32", np.ones(3))).rigorous >= 3 * (1 + u) ** 3
    assert (bounded("float32", np.ones(3)) @ zeros).rigorous >= 3 * (1 + u) ** 3


def test_a_reduction_stores_what_its_roundings_left() -> None:
    # The terms cancel; what float32's roundings leave of them is then rounded to bfloat16.
    x = np.array([2.0**20, 1.0, -(2.0**20)] * 8)
    result = np.sum(bounded("bfloat16", x))
    inner = 23 * 2.0**-24 * np.abs(x).sum()
    assert result.rigorous is not None
    assert result.rigorous >= inner + 2.0**-8 * (8 + inner)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("dtype", FORMATS)
def test_the_bound_of_one_operation_is_used_to_the_full(name: str, dtype: str) -> None:
    rng = np.random.default_rng(1)
    a, b = (to(dtype, rng.uniform(1, 2, 20_000) * scale) for scale in (1, 3))
    ufunc = getattr(np, name)
    result = ufunc(bounded(dtype, a), bounded(dtype, b))
    used = np.abs(to(dtype, result.value) - result.value) / result.rigorous
    assert 0.9 < used.max() <= 1


def test_comparisons_and_steps_are_decided_by_the_values() -> None:
    x = bounded("float32", [-1.0, 0.0, 2.0], [9.0, 9.0, 9.0])
    for decided, expected in (
        (x > 0, [False, False, True]),
        (x >= 0, [False, True, True]),
        (x < 0, [True, False, False]),
        (x <= 0, [True, True, False]),
        (np.equal(x, 0), [False, True, False]),
        (np.not_equal(x, 0), [True, False, True]),
        (np.sign(x), [-1, 0, 1]),
        (np.isfinite(x), [True] * 3),
        (np.isnan(x), [False] * 3),
    ):
        assert isinstance(decided, np.ndarray)
        assert decided.tolist() == expected


def test_what_has_no_handler_is_refused(snapshot: SnapshotAssertion) -> None:
    x = bounded("float32", [1.0])
    refused: list[Callable[[], Any]] = [
        lambda: np.spacing(x),
        lambda: np.nanmedian(x),
        lambda: np.linalg.trace(x),
        lambda: np.add(x, 1, out=np.zeros(1)),
        lambda: np.add(x, 1, where=np.ones(1, bool)),
        lambda: np.add.reduce(x),
        lambda: np.multiply.outer(x, x),
        lambda: np.sum(x, initial=-1.0),
    ]
    for call in refused:
        with pytest.raises(RuleError) as error:
            call()
        assert str(error.value) == snapshot


@pytest.mark.parametrize("dtype", FORMATS)
@REPRODUCIBLE
@given(data=DRAWS)
def test_a_whole_formula_is_sound(dtype: str, data: st.DataObject) -> None:
    # (x - mean) (x + 1) / (3 + sum x^2): each step rounded, each error carried on.
    x = np.array(data.draw(st.lists(numbers(dtype, 8.0), min_size=2, max_size=6)))

    def formula(x: Any, total: Callable[[Any], Any], r: Callable[[Any], Any]) -> Any:
        mean = r(total(x) / len(x))
        return r(r(r(x - mean) * r(x + 1)) / r(3 + total(r(x * x))))

    vector = bounded(dtype, x)
    mean = np.sum(vector) / x.size
    result = (vector - mean) * (vector + 1) / (3 + np.sum(vector * vector))
    for order, _ in itertools.product(orders(0), range(1)):
        low = formula(x, lambda t: low_sum(dtype, t, order), lambda t: to(dtype, t))  # noqa: B023
        f = [exact(t) for t in x]
        mid, squares = sum(f, Fraction(0)) / len(f), sum((t * t for t in f), Fraction(0))
        holds(result, low, [(t - mid) * (t + 1) / (3 + squares) for t in f])


def plain(x: NDArray[np.float64]) -> Bounded:
    return Bounded(x, Arithmetic.stepwise("float32"))


def test_plain_arrays_take_part_as_exact() -> None:
    result = np.ones(2) * plain(np.array([3.0, 5.0]))
    assert isinstance(result, Bounded)
    assert result.rigorous == pytest.approx(np.array([3.0, 5.0]) * 2.0**-24)
