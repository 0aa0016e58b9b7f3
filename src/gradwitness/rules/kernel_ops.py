"""What a kernel does that no NumPy function stands for: where it rounds, and how well.

A rule calls these as it calls NumPy. On plain numbers the first is exp, `continue_from` adds, and
the others change nothing; on arrays that bring their own functions (NEP 18) the engine gives each
its bound.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import scipy

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradwitness.rules.registry import Array


P = ParamSpec("P")
T = TypeVar("T")
_PLAIN = (np.ndarray, np.generic, complex, float, int)


def replaceable(plain: Callable[P, T]) -> Callable[P, T]:
    """Let an array type put its own function in the place of one, by its name.

    It is looked for among the arguments that are given by position.
    """

    @functools.wraps(plain)
    def call(*args: P.args, **form: P.kwargs) -> T:
        for argument in args:
            if not isinstance(argument, _PLAIN):
                own: Any = argument
                result: T = own.__array_function__(call, (type(own),), args, form)
                return result
        return plain(*args, **form)

    return call


def _as_it_is(x: Array) -> Array:
    return x


def _dispatched(name: str, plain: Callable[[Array], Array], text: str) -> Callable[[Array], Array]:
    """Make a function of one array replaceable under a name of its own."""
    call = replaceable(plain)
    call.__name__ = name
    call.__doc__ = text
    return call


short_exp = _dispatched(
    "short_exp",
    np.exp,
    "e^x; where the format has 16 bits, by the short polynomial that is good enough for it.",
)
round_to_format = _dispatched(
    "round_to_format",
    _as_it_is,
    "Round to the tensor's format in the middle of a kernel: a 16-bit buffer.",
)
round_as_kernel = _dispatched(
    "round_as_kernel",
    _as_it_is,
    "Hold a number that came in double precision as the kernel computes.",
)
enter_kernel = _dispatched(
    "enter_kernel",
    _as_it_is,
    "From here on, compute as one kernel does: 16-bit formats in float32, until `leaving`.",
)
leave_kernel = _dispatched(
    "leave_kernel",
    _as_it_is,
    "Store a kernel's result; from here on every step rounds to the format.",
)
accumulate_in_format = _dispatched(
    "accumulate_in_format",
    _as_it_is,
    "From here on, products and sums store every partial result in the tensor's format.",
)
ignore_error = _dispatched(
    "ignore_error",
    _as_it_is,
    "The numbers alone: a shift that does not matter, since what it adds is taken away again.",
)
require_certain = _dispatched(
    "require_certain",
    _as_it_is,
    "Whole numbers, none of which a rounding error could make another one.",
)


def is_complex(x: Array) -> bool:
    """Whether an array, or a number, is complex."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, complex) if dtype is None else dtype.kind == "c"


@replaceable
def paired(re: Array, im: Array) -> Array:
    """Put complex numbers together from their parts."""
    z = np.empty(np.broadcast_shapes(np.shape(re), np.shape(im)), np.complex128)
    z.real, z.imag = re, im
    return z


def parts(z: Array) -> Array:
    """Take complex numbers apart into real and imaginary parts, along one axis more."""
    return np.stack([np.real(z), np.imag(z)], axis=-1)


def over(x: Array, size: Array) -> Array:
    """Divide by magnitudes, and give 0 where they are 0."""
    nothing = np.equal(size, 0)
    return np.where(nothing, 0, x / np.where(nothing, 1, size))


def converted(x: Array, dtype: str | None) -> Array:
    """Return a tensor in the format that it is converted to before it is reduced."""
    kind = str(dtype).removeprefix("torch.")
    if dtype is None or x.dtype.kind != "f" or not kind.startswith(("int", "uint")):
        return x
    return require_certain(np.trunc(x)).astype(kind)


def continue_from(y: Array, start: Array, terms: int) -> Array:
    """Add to a sum of so many products what it may have started from.

    A kernel may put the bias into its accumulator first: then every partial sum holds it, and is
    rounded with it.
    """
    if isinstance(y, np.ndarray):
        return y + start
    result: Any = y.__array_function__(continue_from, (type(y),), (y, start, terms), {})
    return result


@replaceable
def solved(
    A: Array,
    B: Array,
    *,
    adjoint: bool = False,
    triangular: bool = False,  # noqa: ARG001 (the bound depends on it)
) -> Array:
    """Solve A X = B, or A^T X = B, by triangular factors of A unless it is triangular itself."""
    return np.linalg.solve(np.swapaxes(A, -1, -2) if adjoint else A, B)


@replaceable
def determinant(A: Array) -> Any:
    """Return the determinant's sign, the logarithm of its size, and itself."""
    return *np.linalg.slogdet(A), np.linalg.det(A)


@replaceable
def polygamma(x: Array, *, n: int) -> Array:
    """Return the derivative of order n + 1 of the logarithm of the gamma function."""
    return scipy.special.polygamma(n, x)


@replaceable
def running_logsumexp(x: Array, axis: int) -> Array:
    """Return the logarithm of the running sum of e^x, number after number."""
    return np.logaddexp.accumulate(x, axis=axis)
