"""What kernels do that no NumPy function stands for: plain numbers, and bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic, round_to
from gradwitness.rules.kernel_ops import (
    continue_from,
    enter_kernel,
    leave_kernel,
    round_as_kernel,
    round_to_format,
    short_exp,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOW = ("float16", "bfloat16")
FULL = ("float32", "float64")


def numbers(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-8, 0, 400)


def avx(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """e^x as kernels have it in 16 bits with AVX: 1 + f - p(f) between powers of two."""
    scaled = x / np.log(2)
    whole = np.floor(scaled)
    f = scaled - whole
    p = 0.00010703434948458272 + f * (
        0.30354260500649682 + f * (-0.22433836478672356 + f * -0.079204240219773236)
    )
    return np.asarray((1 + f - p) * 2**whole)


def neon(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with NEON: 1 + r + p(r) r^2 around the nearest power of two."""
    whole = np.round(x / np.log(2))
    r = x - whole * np.log(2)
    p = 0.5029083490371704 + 0.1667841374874115 * r
    return np.asarray((1 + r + p * r**2) * 2**whole)


def test_plain_numbers_pass_as_they_are() -> None:
    x = numbers()
    assert np.array_equal(short_exp(x), np.exp(x))
    for function in (round_to_format, round_as_kernel, enter_kernel, leave_kernel):
        assert function(x) is x
        assert function(0.3) == 0.3


@pytest.mark.parametrize("name", LOW)
def test_short_exponential_lies_within_its_bound_and_uses_it(name: str) -> None:
    x = numbers()
    made = short_exp(Bounded(x, Arithmetic.fused(name)))
    assert np.array_equal(made.value, np.exp(x))
    with_avx, with_neon = (
        np.max(np.abs(short(x) - made.value) / made.rigorous) for short in (avx, neon)
    )
    assert 0.3 < with_avx < 0.75 < with_neon <= 1


@pytest.mark.parametrize("name", FULL)
def test_exponential_of_full_formats_is_the_library_s(name: str) -> None:
    x = Bounded(numbers(), Arithmetic.fused(name))
    assert np.array_equal(short_exp(x).rigorous, np.exp(x).rigorous)


@pytest.mark.parametrize("name", LOW)
@pytest.mark.parametrize("function", [round_to_format, leave_kernel])
def test_rounding_in_a_kernel_lies_within_its_bound_and_uses_it(
    name: str, function: object
) -> None:
    x = np.append(numbers(), [0.0, 1e-9, 2.0**-140])
    assert callable(function)
    made = function(Bounded(x, Arithmetic.fused(name)))
    off = np.abs(round_to(x, name) - x)
    assert np.all(off <= made.rigorous)
    assert np.max(off[:-3] / made.rigorous[:-3]) > 0.9


@pytest.mark.parametrize("name", LOW)
def test_rounding_adds_to_the_error_that_came_in(name: str) -> None:
    x = numbers()
    arithmetic = Arithmetic.fused(name)
    before = 0.01 * np.abs(x)
    made = round_to_format(Bounded(x, arithmetic, before, before))
    assert np.allclose(made.rigorous, before + arithmetic.final * 1.01 * np.abs(x))


@pytest.mark.parametrize("name", FULL)
def test_full_formats_round_at_every_step_already(name: str) -> None:
    x = Bounded(numbers(), Arithmetic.fused(name))
    assert round_to_format(x).is_exact


@pytest.mark.parametrize("name", [*LOW, *FULL])
def test_number_that_is_held_is_rounded_once(name: str) -> None:
    x = numbers()
    made = round_as_kernel(Bounded(x, Arithmetic.fused(name)))
    off = np.abs(round_to(x, "float64" if name == "float64" else "float32") - x)
    assert np.all(off <= made.rigorous)
    assert np.all(made.rigorous <= 1.01 * Arithmetic.fused(name).unit * np.abs(x))


@pytest.mark.parametrize("name", [*LOW, *FULL])
def test_kernel_is_entered_and_left(name: str) -> None:
    x = Bounded(numbers(), Arithmetic.stepwise(name))
    inside = enter_kernel(x)
    assert inside.arithmetic == Arithmetic.fused(name)
    assert enter_kernel(inside).arithmetic == inside.arithmetic
    assert leave_kernel(inside).arithmetic == x.arithmetic
    assert inside.is_exact


def test_a_sum_that_starts_from_a_bias_lies_within_its_bound_and_needs_it() -> None:
    # Small products, added one by one in float32 to a large start: each partial sum is rounded as
    # the start is.
    rng = np.random.default_rng(1)
    a = rng.uniform(0, 1e-4, (200, 40)).astype(np.float32)
    b = rng.uniform(0, 1, (40, 1)).astype(np.float32)
    start = np.float32(1.2345)
    summed = np.full((200, 1), start)
    for k in range(40):
        summed = summed + a[:, k : k + 1] * b[k]
    assert summed.dtype == np.float32
    arithmetic = Arithmetic.fused("float32")
    exact = [Bounded(np.asarray(x, dtype=np.float64), arithmetic) for x in (a, b, start)]
    product = exact[0] @ exact[1]
    bounded = continue_from(product, exact[2], 40)
    error = np.abs(summed - bounded.value)
    assert np.all(error <= bounded.rigorous)
    assert np.any(error > (product + exact[2]).rigorous)
    assert np.array_equal(continue_from(product.value, exact[2].value, 40), bounded.value)


def test_a_start_of_zero_costs_one_rounding_of_each_product_at_most() -> None:
    arithmetic = Arithmetic.fused("float32")
    product = Bounded(np.ones((2, 3)), arithmetic) @ Bounded(np.ones((3, 1)), arithmetic)
    bounded = continue_from(product, np.zeros((2, 1)), 3)
    assert np.all(bounded.rigorous <= (1 + 1 / 3) * (product + np.zeros((2, 1))).rigorous)
