"""Bounds of kernel operations that NumPy has no function for (see `rules.kernel_ops`)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.arithmetic import over_matrices
from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    UFUNCS,
    Bounded,
    Error,
    Growth,
    Partial,
    Plain,
    assemble,
    errors_of,
    is_complex,
    rounding,
    scaled,
    total,
    value_of,
)
from gradwitness.engine.bounded.ordering import of_sums
from gradwitness.engine.bounded.reduction import in_no_order, reduction
from gradwitness.engine.bounded.tables import stands_for
from gradwitness.engine.floats import (
    BY_ROUNDOFF,
    SHORT,
    WITNESS_UNIT,
    round_to,
    unit_roundoff,
)
from gradwitness.rules import kernel_ops

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradwitness.engine.floats import Arithmetic

# Kernels that hand exponentials on in 16 bits take 2^x from the exponent bits and, between two
# powers, from a cubic: with AVX at most 1.0704e-4 of the result is off, with NEON 3.0734e-4 (with
# SVE 1.47e-5), where 16 bits are 4.9e-4 and 3.9e-3. x / ln 2 is a float32 number and so is
# 1 / ln 2: 2 |x| u more, 1.05e-5 down to the smallest e^x. A recording may come from any of them.
_CUBIC = 3.2e-4


@stands_for(kernel_ops.short_exp)
def _short_exp(_: Any, x: Bounded) -> Bounded:
    y: Bounded = UFUNCS["exp"](x.arithmetic, x)
    if not x.arithmetic.final:
        return y

    def grow(carried: Error) -> Error:
        return scaled(_CUBIC, total(np.abs(y.value), carried))

    return assemble(x.arithmetic, y.value, (y,), total, (grow, grow))


@stands_for(kernel_ops.round_to_format)
def _round_to_format(_: Any, x: Bounded) -> Bounded:
    """Round to the tensor's format, if it is narrower than the kernel's arithmetic."""
    arithmetic = x.arithmetic
    if not arithmetic.final:
        return x

    def grow(carried: Error) -> Error:
        reach: Plain = np.asarray(total(np.abs(x.value), carried))
        return np.where(reach < arithmetic.tiny, reach, arithmetic.final * reach)

    return assemble(arithmetic, x.value, (x,), total, (grow, grow))


@stands_for(kernel_ops.stored)
def _stored(_: Any, x: Bounded, source: Bounded) -> Bounded:
    """Round a number itself, where it is known: not only its bound."""
    name = SHORT.get(x.arithmetic.final or x.arithmetic.store)
    if name is None or not source.is_exact:
        return x
    return Bounded(round_to(x.value, name), x.arithmetic)


@stands_for(kernel_ops.rounded_once)
def _rounded_once(_: Any, x: Bounded, source: Any) -> Bounded:
    """Round a number itself, unless it is so small that it may be flushed to zero.

    NumPy's own rounding to float64 comes first, which changes nothing: where it has twice the
    digits and two more, the second rounding alone counts (S. A. Figueroa, *When is double rounding
    innocuous?*, SIGNUM Newsletter 30(3), 1995).
    """
    name = BY_ROUNDOFF.get(x.arithmetic.unit - WITNESS_UNIT)
    is_small = (x.value != 0) & (np.abs(x.value) < x.arithmetic.tiny)
    is_known = not isinstance(source, Bounded) or source.is_exact
    if name is None or not is_known or is_small.any():
        return x
    return Bounded(round_to(x.value, name), x.arithmetic)


@stands_for(kernel_ops.has_format)
def _has_format(_: Any, x: Bounded) -> bool:
    return x.arithmetic.unit - WITNESS_UNIT in BY_ROUNDOFF


@stands_for(kernel_ops.weighed)
def _weighed(_: Any, x: Any, rows: Any, columns: Any, roundings: Plain | int) -> Bounded:
    """Bound sums of terms ``r x c``, and carry the weights' errors over."""
    arithmetic = next(a.arithmetic for a in (x, rows, columns) if isinstance(a, Bounded))
    factors = (value_of(rows), value_of(x), np.swapaxes(value_of(columns), -1, -2))
    left, middle, right = map(np.abs, factors)
    value, lines = factors[0] @ factors[1] @ factors[2], left @ middle
    counts = np.asarray(roundings)
    stored = replace(arithmetic, accumulate=arithmetic.unit + arithmetic.final)
    unsorted = None
    if arithmetic.stretches:
        first, *others = map(np.square, factors)
        unsorted = in_no_order(stored, first @ others[0] @ others[1], value, counts)
    sizes = lines @ right
    growths = of_sums(stored, sizes, counts, unsorted)
    along, across = over_matrices(left, middle), over_matrices(lines, right)

    def carry(of_rows: Error, of_x: Error, of_columns: Error) -> Error:
        turned = None if of_columns is None else np.swapaxes(of_columns, -1, -2)
        return across(along(of_rows, of_x), turned)

    return assemble(
        arithmetic,
        value,
        (rows, x, columns),
        carry,
        growths,
        partial=Partial(sizes, stored.accumulate),
    )


@stands_for(kernel_ops.added_in_windows)
def _added_in_windows(
    _: Any, like: Bounded, *, parts: Iterable[tuple[Any, Bounded]], shape: tuple[int, ...]
) -> Bounded:
    value, rigorous, probable = (np.zeros(shape) for _ in range(3))
    for window, part in parts:
        value[window] += value_of(part)
        for sum_, error in zip((rigorous, probable), errors_of(part), strict=True):
            if error is not None:
                sum_[window] += error
    return Bounded(value, like.arithmetic, rigorous, probable)


@stands_for(kernel_ops.is_uncertain)
def _is_uncertain(func: Any, x: Bounded) -> Plain:
    return func(x.value) if x.rigorous is None else np.asarray(x.rigorous > 0)


@stands_for(kernel_ops.round_as_kernel)
def _round_as_kernel(_: Any, x: Bounded) -> Bounded:
    return assemble(x.arithmetic, x.value, (x,), total, rounding(x.arithmetic, x.value))


@stands_for(kernel_ops.corrected_mean)
def _corrected_mean(_: Any, x: Bounded, over: tuple[int, ...]) -> Bounded:
    """Bound a mean that each number corrects, ``m + (x - m) / k`` (Welford 1962).

    With S the sum of the n sizes and d_k = x_k - m, the additions to m are off by u |m| each, which
    k / n of remains: by ``(n - 1) u S / n``, as in a sum. The subtraction, the division and the
    product add three roundings of d_k / k: ``3 u sum |d_k| / n``. As |d_k| is at most
    ``|x_k| + S / (k - 1)``, that is less than ``3 (1 + H) u S / n``, H being 1 + ... + 1 / (n - 1).
    """
    mean, size = kernel_ops.mean_over(x, over), kernel_ops.mean_over(np.abs(x.value), over)
    count = math.prod(x.shape[axis] for axis in over)
    # H is at most 1 + ln(n - 1).
    further = math.ceil(3 * (2 + math.log(count - 1))) if count > 1 else 0
    growths = reduction(x.arithmetic, size, mean.value, further)
    return assemble(x.arithmetic, mean.value, (mean,), total, growths)


@stands_for(kernel_ops.ignore_error)
def _ignore_error(_: Any, x: Bounded) -> Plain:
    return x.value


@stands_for(kernel_ops.require_certain)
def _require_certain(_: Any, x: Bounded) -> Plain:
    if x.rigorous is not None and x.rigorous.any():
        raise NotImplementedError("integer result depends on rounding")
    return x.value


@stands_for(kernel_ops.enter_kernel)
def _enter_kernel(_: Any, x: Bounded) -> Bounded:
    return Bounded(x.value, x.arithmetic.in_kernel, *x.errors)


@stands_for(kernel_ops.leave_kernel)
def _leave_kernel(func: Any, x: Bounded) -> Bounded:
    x = _round_to_format(func, x)
    return Bounded(x.value, _stepwise(x.arithmetic), *x.errors)


@stands_for(kernel_ops.accumulate_in_format)
def _accumulate_in_format(_: Any, x: Bounded) -> Bounded:
    narrow = x.arithmetic.final or x.arithmetic.store
    if not narrow:
        return x
    unit = narrow + unit_roundoff("float64")
    return Bounded(x.value, replace(x.arithmetic, accumulate=unit, store=0.0), *x.errors)


@stands_for(kernel_ops.continue_from)
def _continue_from(_: Any, y: Bounded, start: Any, terms: int) -> Bounded:
    """Bound a sum of products that begins from a start value.

    With n products the start takes part in n additions, and each product in one more.
    """
    result: Bounded = UFUNCS["add"](y.arithmetic, y, start)
    size = np.broadcast_to(np.abs(value_of(start)), result.shape)
    # Each part of a complex product has two terms.
    roundings = 2 * terms if is_complex(result) else terms
    growths = reduction(y.arithmetic, size, result.value, roundings)
    if growths is None:
        return result
    # One more rounding adds an n-th of what the n roundings of y added.
    rigorous, probable = (scaled(1 / terms, error) for error in y.errors)

    def more(growth: Growth, error: Error) -> Growth:
        return lambda carried: total(growth(carried), error)

    added = more(growths[0], rigorous), more(growths[1], probable)
    return assemble(y.arithmetic, result.value, (result,), total, added)


def _stepwise(arithmetic: Arithmetic) -> Arithmetic:
    """Return the arithmetic of a chain of kernels in the format of one of them."""
    final = arithmetic.final
    # As Arithmetic.stepwise has it: the witness's own rounding beside the format's.
    unit = final + unit_roundoff("float64") if final else arithmetic.unit
    return replace(arithmetic, unit=unit, store=final, final=0.0)


# Where a kernel stores its numbers, and in what format, whatever these are.
COMPLEX_FUNCTIONS.update(
    (
        "ignore_error",
        "continue_from",
        "accumulate_in_format",
        "enter_kernel",
        "leave_kernel",
        "round_to_format",
    )
)
