"""Discrete Fourier transforms, by any fast algorithm.

A transform of length N is made in stages, one for each prime factor r of N. A stage sums r numbers,
each times a root of unity: so the moduli of all that a number of the result is made of add up to
||x||_1, stage after stage, and an error that a stage makes is handed on as its numbers are. On the
way of one part of a number there are in each stage so many roundings, and both parts together are
off by sqrt(2) times as much (as for products, see `complex_arithmetic`):

* 3 for the twiddle factor: its own, if it is good to one unit, and those of a product;
* 1 for r = 2; r + 2 for an odd r. That folds its operands, multiplies the sums by cosines and the
  differences by sines, which are rounded too, and adds.

So an error is at most gamma_n ||x||_1, n being sqrt(2) times the roundings of all stages. For
powers of two that is 4 sqrt(2) u a stage, where theorem 24.2 of Higham 2002 has 6.7 u a stage
normwise, and ||x||_1 <= sqrt(N) ||x||_2. Several axes are so many more stages. Of real numbers a
kernel may make one complex transform of half the length: a last stage in which the moduli add up to
twice as much.

A prime r above `_LARGEST` may also be made by a convolution of M < 4 N points (Bluestein, Rader):
two transforms a and b, multiplied and transformed back. By Cauchy and Schwarz a number of the
result is off by ||a||_2 ||b||_2 / M <= sqrt(2 N) ||x||_2 times the relative errors in the 2-norm of
a and b, and that of one number of the last transform. In the 2-norm a stage is worse by sqrt(r), so
that up to the radix 11 each doubling of M costs at most 22 roundings, and 7 in the last transform.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleError
from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    FUNCTIONS,
    Bounded,
    Partial,
    Plain,
    assemble,
    carrying,
)
from gradwitness.engine.bounded.reduction import reduction

if TYPE_CHECKING:
    from collections.abc import Sequence

# The largest prime that is surely made by stages.
_LARGEST = 13
_TWIDDLE = 3
# The last stage of a real transform, and a scale, which is rounded itself.
_PACKING, _SCALE = 5, 2
_REAL = (np.fft.rfftn, np.fft.irfftn)


@functools.cache
def _factors(n: int) -> tuple[int, ...]:
    """Return a length's prime factors."""
    factors = []
    for r in range(2, math.isqrt(n) + 1):
        while n % r == 0:
            factors.append(r)
            n //= r
    return (*factors, n) if n > 1 else tuple(factors)


def _roundings(lengths: Sequence[int], *, real: bool) -> tuple[int, bool]:
    """Return the roundings on the way to one number, and whether a convolution may be on it."""
    factors = [r for n in lengths for r in _factors(n)]
    stages = sum(_TWIDDLE + (1 if r == 2 else r + 2) for r in factors)
    stages += _SCALE + (_PACKING if real else 0)
    convolved = [n for n in lengths if max(_factors(n), default=1) > _LARGEST]
    # And on the way products, with the chirp's numbers too.
    others = sum((22 + 22 + 7) * (math.log2(n) + 2) + 20 for n in convolved)
    return math.ceil(max(math.sqrt(2) * stages, others + stages)), bool(convolved)


def _transformed(func: Any, args: Any, kwargs: Any) -> Bounded:
    if len(args) != 1 or not kwargs.keys() <= {"axes", "norm", "s"}:
        raise RuleError(
            f"calls np.fft.{func.__name__} with arguments other than axes, norm and s by keyword"
        )
    x: Bounded = args[0]
    axes = tuple(axis % x.ndim for axis in kwargs["axes"])
    value = np.asarray(func(x.value, **kwargs))
    lengths = [value.shape[axis] if func is np.fft.irfftn else x.shape[axis] for axis in axes]
    real, size = func in _REAL, math.prod(lengths)
    inverse = func in (np.fft.ifftn, np.fft.irfftn)
    shares = {"ortho": 1 / math.sqrt(size), "backward" if inverse else "forward": 1 / size}
    scale = shares.get(kwargs["norm"], 1.0)

    def summed(numbers: Plain) -> Plain:
        """Add up the numbers of one transform; of half a spectrum, also its other half."""
        if func is np.fft.irfftn:
            numbers = _both_halves(numbers, axes[-1], lengths[-1])
        return np.asarray(np.sum(numbers, axis=axes, keepdims=True))

    roundings, convolved = _roundings(lengths, real=real)
    size_of_x = np.abs(x.value)
    reach = np.sqrt(2 * size * summed(size_of_x**2)) if convolved else summed(size_of_x)
    # All results of one transform have the same bound.
    magnitude = (2 if real else 1) * scale * reach
    # Each sum on the way may contain products that underflowed.
    products = 8 * size * max((r for n in lengths for r in _factors(n)), default=1)
    growths = reduction(x.arithmetic, magnitude, value, roundings, products)
    carry = carrying(lambda e: scale * summed(e))
    # It may be scaled at the end.
    partial = Partial(magnitude * max(1.0, 1 / scale), x.arithmetic.accumulate)
    return assemble(x.arithmetic, value, (x,), carry, growths, partial=partial)


def _both_halves(numbers: Plain, axis: int, length: int) -> Plain:
    """Double the numbers of a half spectrum that stand for two."""
    twice = np.full(numbers.shape[axis], 1.0)
    twice[1 : (length + 1) // 2] = 2.0
    return np.asarray(numbers * np.expand_dims(twice, tuple(range(1, numbers.ndim - axis))))


FUNCTIONS |= {
    func.__name__: _transformed for func in (np.fft.fftn, np.fft.ifftn, np.fft.rfftn, np.fft.irfftn)
}
COMPLEX_FUNCTIONS.update(("fftn", "ifftn", "irfftn"))
