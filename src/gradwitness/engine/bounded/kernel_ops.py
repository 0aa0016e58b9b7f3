"""Bounds of kernel operations that NumPy has no function for (see `rules.kernel_ops`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradwitness.engine.bounded.array import (
    COMPLEX_FUNCTIONS,
    FUNCTIONS,
    UFUNCS,
    Bounded,
    Error,
    Growth,
    Plain,
    assemble,
    errors_of,
    is_complex,
    reduction,
    rounding,
    scaled,
    total,
    value_of,
)
from gradwitness.engine.floats import round_to, unit_roundoff

if TYPE_CHECKING:
    from gradwitness.engine.floats import Arithmetic

# Kernels that hand exponentials on in 16 bits take 2^x from the exponent bits and, between two
# powers, from a cubic: at most 1.0704e-4 of the result is off, where 16 bits are 4.9e-4 and 3.9e-3.
# x / ln 2 is a float32 number and so is 1 / ln 2: 2 |x| u more, 1.05e-5 down to the smallest e^x.
_CUBIC = 2.0**-13


def _short_exp(func: Any, args: Any, kwargs: Any) -> Bounded:
    del func, kwargs
    (x,) = args
    y: Bounded = UFUNCS["exp"](x.arithmetic, x)
    if not x.arithmetic.final:
        return y

    def grow(carried: Error) -> Error:
        return scaled(_CUBIC, total(np.abs(y.value), carried))

    return assemble(x.arithmetic, y.value, (y,), total, (grow, grow))


def _rounded(x: Bounded) -> Bounded:
    """Round to the tensor's format, if it is narrower than the kernel's arithmetic."""
    arithmetic = x.arithmetic
    if not arithmetic.final:
        return x

    def grow(carried: Error) -> Error:
        reach: Plain = np.asarray(total(np.abs(x.value), carried))
        return np.where(reach < arithmetic.tiny, reach, arithmetic.final * reach)

    return assemble(arithmetic, x.value, (x,), total, (grow, grow))


def _round_to_format(func: Any, args: Any, kwargs: Any) -> Bounded:
    del func, kwargs
    return _rounded(args[0])


def _stored(func: Any, args: Any, kwargs: Any) -> Bounded:
    """Round a number itself, where it is known: not only its bound."""
    del func, kwargs
    x, source = args
    name = _SHORT.get(x.arithmetic.final or x.arithmetic.store)
    return (
        x if name is None or not source.is_exact else Bounded(round_to(x.value, name), x.arithmetic)
    )


def _is_certain(func: Any, args: Any, kwargs: Any) -> bool:
    del func, kwargs
    certain: bool = args[0].is_exact
    return certain


def _round_as_kernel(func: Any, args: Any, kwargs: Any) -> Bounded:
    del func, kwargs
    (x,) = args
    return assemble(x.arithmetic, x.value, (x,), total, rounding(x.arithmetic, x.value))


def _ignore_error(func: Any, args: Any, kwargs: Any) -> Plain:
    del func, kwargs
    value: Plain = args[0].value
    return value


def _require_certain(func: Any, args: Any, kwargs: Any) -> Plain:
    del func, kwargs
    (x,) = args
    if x.rigorous is not None and x.rigorous.any():
        raise NotImplementedError("integer result depends on rounding")
    value: Plain = x.value
    return value


def _enter_kernel(func: Any, args: Any, kwargs: Any) -> Bounded:
    del func, kwargs
    (x,) = args
    return Bounded(x.value, _fused(x.arithmetic), *errors_of(x))


def _leave_kernel(func: Any, args: Any, kwargs: Any) -> Bounded:
    del func, kwargs
    rounded = _rounded(args[0])
    return Bounded(rounded.value, _stepwise(rounded.arithmetic), *errors_of(rounded))


def _accumulate_in_format(func: Any, args: Any, kwargs: Any) -> Bounded:
    del func, kwargs
    x: Bounded = args[0]
    narrow = x.arithmetic.final or x.arithmetic.store
    if not narrow:
        return x
    unit = narrow + unit_roundoff("float64")
    return Bounded(x.value, replace(x.arithmetic, accumulate=unit, store=0.0), *errors_of(x))


def _continue_from(func: Any, args: Any, kwargs: Any) -> Bounded:
    """Bound a sum of products that begins from a start value.

    With n products the start takes part in n additions, and each product in one more.
    """
    del func, kwargs
    y, start, terms = args
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


def _fused(arithmetic: Arithmetic) -> Arithmetic:
    """Return one kernel's arithmetic in the format of a chain of kernels."""
    final = arithmetic.store or arithmetic.final
    return replace(arithmetic, unit=arithmetic.accumulate, store=0.0, final=final)


def _stepwise(arithmetic: Arithmetic) -> Arithmetic:
    """Return the arithmetic of a chain of kernels in the format of one of them."""
    final = arithmetic.final
    # As Arithmetic.stepwise has it: the witness's own rounding beside the format's.
    unit = final + unit_roundoff("float64") if final else arithmetic.unit
    return replace(arithmetic, unit=unit, store=final, final=0.0)


# Short formats by their unit roundoff.
_SHORT = {unit_roundoff(name): name for name in ("float16", "bfloat16")}

FUNCTIONS |= {
    "stored": _stored,
    "is_certain": _is_certain,
    "short_exp": _short_exp,
    "round_to_format": _round_to_format,
    "round_as_kernel": _round_as_kernel,
    "ignore_error": _ignore_error,
    "require_certain": _require_certain,
    "enter_kernel": _enter_kernel,
    "leave_kernel": _leave_kernel,
    "accumulate_in_format": _accumulate_in_format,
    "continue_from": _continue_from,
}
COMPLEX_FUNCTIONS.add("continue_from")
