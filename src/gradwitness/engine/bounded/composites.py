"""NumPy functions composed of others, and einsum."""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness._errors import RuleError
from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    Axis,
    Bounded,
    Error,
    Growth,
    Partial,
    Plain,
    as_read,
    assemble,
    total,
    value_of,
)
from gradwitness.engine.bounded.reduction import reduction
from gradwitness.engine.bounded.tables import stands_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.engine.floats import Arithmetic

# Any: NumPy's annotations do not know that its functions take a Bounded.
Array = Any


def _count(a: Array, axis: Axis) -> int:
    axes = range(a.ndim) if axis is None else np.atleast_1d(axis)
    return math.prod(a.shape[k] for k in axes)


@stands_for(np.mean)
def _mean(_: Any, a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    return np.sum(a, axis=axis, keepdims=keepdims) / _count(a, axis)


@stands_for(np.var)
def _variance(
    _: Any, a: Array, axis: Axis = None, ddof: float = 0, keepdims: bool = False
) -> Array:
    """Bound the mean square distance from the mean, in two passes as by NumPy, or as by torch.

    Torch updates mean and sum with each number (Welford). With S the sum of squares and u the
    roundoff, its k-th mean is off by at most ``u |x| (2/3 sqrt(k) + 5 / sqrt(k))``, and so S by
    ``(2 n + 14) u |x| sqrt(S)`` and ``(n + 3) u S`` (Chan, Golub and LeVeque, Amer. Statist. 37,
    1983, have the order, and that of pairwise merging, which is lower). The difference of mean
    square and squared mean is not covered: a rule for that writes it out.
    """
    n = _count(a, axis)
    gap = np.abs(a - np.sum(a, axis=axis, keepdims=True) / n)
    squares = np.sum(gap * gap, axis=axis, keepdims=keepdims)
    size = np.abs(a.value) + (0.0 if a.rigorous is None else a.rigorous)
    length = np.sqrt(np.sum(size * size, axis=axis, keepdims=keepdims))

    def updated(growth: Callable[[float], float]) -> Growth:
        def grow(carried: Error) -> Error:
            most = squares.value + (0.0 if carried is None else carried)
            reach = growth(2 * n + 14) * length * np.sqrt(most)
            return np.asarray(reach + growth(n + 3) * most)

        return grow

    arithmetic = squares.arithmetic
    worst, probable = map(updated, arithmetic.growths)
    either = assemble(
        arithmetic, squares.value, (squares,), total, (worst, probable) if n > 1 else None
    )
    return either / (n - ddof)


@stands_for(np.std)
def _deviation(
    _: Any, a: Array, axis: Axis = None, ddof: float = 0, keepdims: bool = False
) -> Array:
    return np.sqrt(np.var(a, axis=axis, ddof=ddof, keepdims=keepdims))


@stands_for(np.clip)
def _clipped(
    _: Any,
    a: Array,
    a_min: Array = None,
    a_max: Array = None,
    *,
    min: Array = None,  # noqa: A002 (NumPy's name)
    max: Array = None,  # noqa: A002 (NumPy's name)
) -> Array:
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    a = a if low is None else np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


@stands_for(np.diff)
def _differences(_: Any, a: Array, n: int = 1, axis: int = -1) -> Array:
    for _each in range(n):
        along = np.swapaxes(a, 0, axis)
        a = np.swapaxes(along[1:] - along[:-1], 0, axis)
    return a


@stands_for(np.round, np.around)
def _rounded(_: Any, a: Array, decimals: int = 0) -> Array:
    if decimals == 0:
        return np.rint(a)
    factor = 10.0 ** abs(decimals)
    return np.rint(a * factor) / factor if decimals > 0 else np.rint(a / factor) * factor


@stands_for(np.ptp)
def _range(_: Any, a: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)


@stands_for(np.trace)
def _trace(_: Any, a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


@stands_for(np.outer)
def _outer(_: Any, a: Array, b: Array) -> Array:
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@stands_for(np.dot)
def _dot(_: Any, a: Array, b: Array) -> Array:
    if not np.ndim(a) or not np.ndim(b):
        return a * b
    if np.ndim(b) <= 2:
        return a @ b
    return np.tensordot(a, b, (-1, -2))


@stands_for(np.vdot)
def _vdot(_: Any, a: Array, b: Array) -> Array:
    return np.conjugate(np.reshape(a, (-1,))) @ np.reshape(b, (-1,))


@stands_for(np.inner)
def _inner(_: Any, a: Array, b: Array) -> Array:
    return np.tensordot(a, b, (-1, -1)) if np.ndim(a) and np.ndim(b) else a * b


@stands_for(np.tensordot)
def _tensordot(_: Any, a: Array, b: Array, axes: Any = 2) -> Array:
    if np.ndim(axes) == 0:
        axes = (range(np.ndim(a) - axes, np.ndim(a)), range(axes))
    last, first = (
        [k % np.ndim(x) for k in np.atleast_1d(operand_axes)]
        for x, operand_axes in zip((a, b), axes, strict=True)
    )
    kept_a = [k for k in range(np.ndim(a)) if k not in last]
    kept_b = [k for k in range(np.ndim(b)) if k not in first]
    shape = [np.shape(a)[k] for k in kept_a] + [np.shape(b)[k] for k in kept_b]
    inner = math.prod(np.shape(a)[k] for k in last)
    left = np.reshape(np.transpose(a, kept_a + last), (-1, inner))
    right = np.reshape(np.transpose(b, first + kept_b), (inner, -1))
    return np.reshape(left @ right, shape)


@stands_for(np.linalg.norm)
def _norm(
    _: Any,
    x: Array,
    ord: Any = None,  # noqa: A002 (NumPy's name)
    axis: Axis = None,
    keepdims: bool = False,
) -> Array:
    axes = len(np.atleast_1d(range(x.ndim) if axis is None else axis))
    if ord is None or (ord, axes) in ((2, 1), ("fro", 2)):
        size = np.abs(x)
        return np.sqrt(np.sum(size * size, axis=axis, keepdims=keepdims))
    if axes != 1 or not isinstance(ord, (int, float)):
        raise RuleError(
            f"calls np.linalg.norm with ord={ord!r}: for a matrix only 'fro' has a rounding bound"
        )
    if ord == 0:
        return np.count_nonzero(x.value, axis=axis, keepdims=keepdims).astype(np.float64)
    if math.isinf(ord):
        extreme = np.max if ord > 0 else np.min
        return extreme(np.abs(x), axis=axis, keepdims=keepdims)
    powers = np.abs(x) if ord == 1 else np.power(np.abs(x), ord)
    power_sum = np.sum(powers, axis=axis, keepdims=keepdims)
    return power_sum if ord == 1 else np.power(power_sum, 1 / ord)


@stands_for(np.einsum)
def _einsum(_: Any, subscripts: Any, *operands: Array, optimize: Any = False) -> Bounded:
    """Bound sums of products of one or two operands: n products and n - 1 sums each."""
    del optimize
    if not isinstance(subscripts, str) or len(operands) > 2:
        raise RuleError(
            "calls np.einsum with unsupported arguments; it takes a string and one or two arrays"
        )
    operands = tuple(map(as_read, operands))
    values = [np.asarray(value_of(operand)) for operand in operands]
    arithmetic: Arithmetic = next(x.arithmetic for x in operands if isinstance(x, Bounded))

    def run(*arrays: Any) -> Plain:
        return np.asarray(np.einsum(subscripts, *arrays, optimize=True))

    sizes = [np.abs(operand) for operand in values]

    def carry(*errors: Error) -> Error:
        first, *second = errors
        if not second:
            return None if first is None else run(first)
        grown = sizes[1] if second[0] is None else sizes[1] + second[0]
        return total(
            None if first is None else run(first, grown),
            None if second[0] is None else run(sizes[0], second[0]),
        )

    terms = _terms(subscripts, [operand.shape for operand in values])
    roundings = terms - 1 if len(values) == 1 else terms
    value = run(*values)
    partial = Partial(run(*sizes), arithmetic.accumulate)
    growths = reduction(
        arithmetic, partial.sizes, value, roundings, squares=lambda: run(*map(np.square, sizes))
    )
    return assemble(arithmetic, value, operands, carry, growths, partial=partial)


def _terms(subscripts: str, shapes: list[tuple[int, ...]]) -> int:
    """Return how many terms each sum of an einsum has: the product of the contracted lengths."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    lengths: dict[str, int] = {}
    for letters, shape in zip(inputs.split(","), shapes, strict=True):
        before, _, after = letters.partition("...")
        lengths |= dict(zip(before, shape, strict=False))
        lengths |= dict(zip(reversed(after), reversed(shape), strict=False))
    output_letters = output if arrow else [c for c in string.ascii_letters if inputs.count(c) == 1]
    return math.prod(n for letter, n in lengths.items() if letter not in output_letters)


# The functions that these call check for themselves whether they take complex numbers.
COMPLEX_FUNCTIONS.update(
    ("mean", "var", "std", "diff", "trace", "outer", "dot", "vdot", "inner", "tensordot")
)
COMPLEX_FUNCTIONS.add("linalg.norm")
