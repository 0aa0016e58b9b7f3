"""Low precision, step by step, and exact arithmetic: what the bounds are held against."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import mpmath
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from gradwitness.engine.bounded import Bounded
from gradwitness.engine.floats import Arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

FORMATS = ("float32", "float16", "bfloat16")
# Digits of the significand, and the largest and the smallest normal number: IEEE 754.
DIGITS = {"float32": 24, "float16": 11, "bfloat16": 8, "float64": 53}
LARGEST = {"float32": 3.4e38, "float16": 65504.0, "bfloat16": 3.38e38}
SMALLEST = {"float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}

REPRODUCIBLE = settings(max_examples=40, deadline=None, derandomize=True, database=None)


# Bounds are float64 numbers, rounded themselves.
SLACK = 1 + Fraction(1, 2**48)


def unit(dtype: str) -> float:
    """Return half the gap above 1."""
    return 2.0 ** -DIGITS[dtype]


def to(dtype: str, x: Any) -> Any:
    """Round float64 numbers to a format, to nearest, ties to even."""
    with np.errstate(over="ignore"):
        single = np.asarray(x, np.float64).astype(np.float32)
        half = np.asarray(x, np.float64).astype(np.float16)
    if dtype == "float16":
        return half.astype(np.float64)
    if dtype == "float32":
        return single.astype(np.float64)
    bits = np.atleast_1d(single).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) & np.uint64(0xFFFF0000)
    rounded = bits.astype(np.uint32).view(np.float32).reshape(single.shape)
    return np.where(np.isfinite(single), rounded, single).astype(np.float64)


def numbers(dtype: str, largest: float = math.inf) -> st.SearchStrategy[float]:
    """Draw numbers that a format has, the subnormal ones and zero among them."""
    width: Literal[16, 32] = 16 if dtype == "float16" else 32
    limit = float(to(f"float{width}", min(LARGEST[dtype], largest)))
    anywhere = st.floats(-limit, limit, width=width)
    near_one = st.floats(-2, 2, width=width)
    return st.one_of(near_one, anywhere).map(lambda x: float(to(dtype, x)))


def exact(x: float) -> Fraction:
    """Return a float's value."""
    return Fraction(float(x))


def above(x: Fraction | Any) -> float:
    """Return a float that is not below a number."""
    near = float(x)
    return near if exact(near) >= Fraction(x) else math.nextafter(near, math.inf)


@st.composite
def operands(draw: st.DrawFn, dtype: str, largest: float = math.inf) -> tuple[float, float, float]:
    """Draw a low-precision number p, what the witness has for it, x, and a bound with no slack."""
    p = draw(numbers(dtype, largest))
    how = draw(st.sampled_from(["exact", "relative", "absolute"]))
    if how == "exact":
        return p, p, 0.0
    shift = draw(st.floats(-1, 1, width=16))
    x = p + shift * (abs(p) * 2.0**-6 if how == "relative" else 2.0**-20)
    return p, x, above(abs(exact(x) - exact(p)))


def bounded(dtype: str, x: Any, e: Any = 0.0) -> Any:
    """Return what the witness has, with a bound; one of zeros is no bound.

    A Bounded, but NumPy's annotations do not know that its functions take one.
    """
    error = np.asarray(e, np.float64)
    array = np.asarray(x, np.float64)
    tier = np.broadcast_to(error, array.shape) if error.any() else None
    return Bounded(array, Arithmetic.stepwise(dtype), tier, tier)


def holds(result: Bounded, low: Any, truth: Iterable[Any]) -> None:
    """Assert that what low precision computes lies within the bound of the exact value."""
    got = np.ravel(np.asarray(low, np.float64))
    bound = np.zeros(got.size) if result.rigorous is None else np.ravel(result.rigorous)
    for place, (number, limit, true) in enumerate(zip(got, bound, truth, strict=True)):
        if limit == math.inf or not math.isfinite(number):
            continue
        if isinstance(true, Fraction):
            assert abs(exact(number) - true) <= exact(limit) * SLACK, (
                place,
                number,
                float(true),
                limit,
            )
        else:
            with mpmath.workdps(80):
                gap = abs(mpmath.mpf(float(number)) - true)
                assert gap <= mpmath.mpf(float(limit)) * (1 + mpmath.mpf(2) ** -48), (
                    place,
                    number,
                    float(true),
                    limit,
                )


def orders(seed: int) -> dict[str, Callable[[list[float], str], float]]:
    """Return ways to add numbers up, each partial sum rounded to a format."""

    def running(terms: list[float], dtype: str) -> float:
        total = terms[0]
        for term in terms[1:]:
            total = float(to(dtype, total + term))
        return total

    def shuffled(terms: list[float], dtype: str) -> float:
        mixed = np.random.default_rng(seed).permutation(terms)
        return running([float(t) for t in mixed], dtype)

    def pairwise(terms: list[float], dtype: str) -> float:
        if len(terms) == 1:
            return terms[0]
        half = len(terms) // 2
        return float(to(dtype, pairwise(terms[:half], dtype) + pairwise(terms[half:], dtype)))

    def blocked(terms: list[float], dtype: str) -> float:
        blocks = [running(terms[k : k + 4], dtype) for k in range(0, len(terms), 4)]
        return running(blocks, dtype)

    def backwards(terms: list[float], dtype: str) -> float:
        return running(terms[::-1], dtype)

    return {f.__name__: f for f in (running, shuffled, pairwise, blocked, backwards)}


def low_sum(dtype: str, terms: NDArray[np.float64], order: str, seed: int = 0) -> float:
    """Add up as torch does: 16-bit numbers in float32, the result rounded to the format."""
    inner = "float32" if dtype in ("float16", "bfloat16") else dtype
    total = orders(seed)[order]([float(t) for t in terms], inner)
    return float(to(dtype, total))
