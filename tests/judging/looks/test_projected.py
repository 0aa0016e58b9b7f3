"""How often a random projection misses an error, against the probability that is stated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradwitness.judging.looks.products import Products
from gradwitness.judging.looks.projected import MISSED, VECTORS
from gradwitness.judging.looks.step import Step, step_of
from gradwitness.tape import Call, Layout, Ref, Value

if TYPE_CHECKING:
    from gradwitness.judging.comparing.comparison import Comparison

TRIALS = 1000


def product() -> tuple[Step, Value]:
    """Return a product of float32 matrices, and its result as float64 has it, rounded."""
    random = np.random.default_rng(3)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((128, 160), (160, 100)))
    y = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    values = [
        Value(n, array.shape, "float32", array, Layout(n, 0, (array.shape[1], 1)))
        for n, array in enumerate((a, b, y))
    ]
    step = step_of(values, Call(0, "aten.mm.default", {"self": Ref(0), "mat2": Ref(1)}, (2,)))
    assert step is not None
    return step, values[2]


def claimed(looked: Comparison, chance: float) -> float:
    """Return the norm above which an error is said to be missed with less than a probability."""
    norm: float = 2 * math.sqrt(2 / math.pi) * looked.bound / chance ** (1 / VECTORS)
    return norm


def misses(size: float, chance: float) -> int:
    """Count how often an error of a norm, spread over a column (the longer axis), is missed.

    That is where the step agrees, though what it claims is less than that norm.
    """
    step, y = product()
    assert y.array is not None
    error = np.random.default_rng(5).standard_normal(y.shape[0])
    error *= size / np.linalg.norm(error)
    wrong = y.array.astype(np.float64)
    wrong[:, 7] += error
    value = Value(2, y.shape, "float32", wrong.astype(np.float32), y.layout)
    random = np.random.default_rng(11)
    agreed = [Products(random).look(step, "", None, value) for _ in range(TRIALS)]
    return sum(c is not None and claimed(c, chance) < size for c in agreed)


def test_an_error_of_what_is_detected_is_not_missed() -> None:
    step, y = product()
    looked = Products(np.random.default_rng(0)).look(step, "", None, y)
    assert looked is not None
    assert looked.missed == MISSED
    assert looked.detects == pytest.approx(claimed(looked, MISSED))
    assert misses(1.05 * looked.detects, MISSED) == 0


@pytest.mark.parametrize("stated", [0.9, 0.5, 0.1])
def test_a_smaller_error_is_missed_less_often_than_the_formula_says(stated: float) -> None:
    """Six projections of an error d miss it with a probability below (sqrt(2/pi) 2a / d)^6."""
    step, y = product()
    right = [Products(np.random.default_rng(k)).look(step, "", None, y) for k in range(20)]
    size = max(claimed(c, stated) for c in right if c is not None)
    spread = math.sqrt(stated * (1 - stated) / TRIALS)
    assert misses(size, stated) / TRIALS <= stated + 4 * spread


def test_an_error_as_small_as_the_allowance_is_often_missed() -> None:
    """The measurement can fail: |N(0, a/2)| stays below a with 95 %, six times with 76 %."""
    step, y = product()
    looked = Products(np.random.default_rng(0)).look(step, "", None, y)
    assert looked is not None
    assert misses(looked.bound / 2, math.inf) > TRIALS / 4


@pytest.mark.parametrize("exposed", [(), (0,)])
def test_what_lasts_is_not_that_of_memory_which_others_may_write_to(
    exposed: tuple[int, ...],
) -> None:
    products = Products(np.random.default_rng(0), exposed)
    for _ in range(2):
        products.transposed(9, 0)
    step, y = product()
    assert products.look(step, "", None, y) is not None
    again, y = product()
    for value in (again.operands["A"], y):
        array: Any = value.array
        array *= 2
    assert (products.look(again, "", None, y) is not None) == bool(exposed)
