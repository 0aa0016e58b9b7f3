"""What a kernel does that no NumPy function stands for: where it rounds, and how well.

A rule calls these as it calls NumPy. On plain numbers the first is exp, `continue_from` adds, and
the others change nothing; on arrays that bring their own functions (NEP 18) the engine gives each
its bound.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import scipy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gradwitness.rules.vjps import Array


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
                if result is not NotImplemented:
                    return result
        return plain(*args, **form)

    return call


# Below so many numbers, NumPy's own choice is the fastest.
_MANY = 2**10
# Whole numbers of as many bits.
_BITS: Mapping[Any, Any] = {np.dtype("f4"): np.int32, np.dtype("f8"): np.int64}


def where(condition: Any, x: Any, y: Any) -> Any:
    """Choose as np.where does: of many numbers of one format by their bits, without guesses."""
    arrays = [v for v in (x, y) if isinstance(v, np.ndarray) and v.ndim]
    kind = arrays[0].dtype if arrays else None
    bits = _BITS.get(kind)
    if (
        bits is None
        or not isinstance(condition, np.ndarray)
        or condition.size < _MANY
        or condition.dtype != np.bool_
        or not all(_is_in(kind, v) for v in (x, y))
    ):
        return np.where(condition, x, y)
    of_x, of_y = (np.asarray(v, dtype=kind).view(bits) for v in (x, y))
    # All bits where the number is chosen, else none.
    chosen = np.negative(condition.view(np.int8))
    if of_x.ndim == 0 and of_x == 0:
        return (of_y & ~chosen).view(kind)
    if of_y.ndim == 0 and of_y == 0:
        return (of_x & chosen).view(kind)
    return (((of_x ^ of_y) & chosen) ^ of_y).view(kind)


def _is_in(kind: Any, x: Any) -> bool:
    """Whether numbers are those of a format, as a plain number of Python's is."""
    own = isinstance(x, (np.ndarray, np.generic))
    return bool(x.dtype == kind) if own else isinstance(x, float | int)


def times(factor: Any, x: Any) -> Any:
    """Multiply; by the number 1, nothing is copied."""
    if isinstance(x, np.ndarray) and isinstance(factor, int | float) and factor == 1:
        return x
    return factor * x


def power(x: Any, exponent: Any) -> Any:
    """Raise as np.power does: to 3 by products, which takes no tenth of the C library's time."""
    if isinstance(x, np.ndarray) and isinstance(exponent, int | float) and exponent == 3:
        return x * x * x
    return np.power(x, exponent)


@replaceable
def short_exp(x: Array) -> Array:
    """Return e^x, by a short polynomial where the format has 16 bits: it is good enough there."""
    return np.exp(x)


@replaceable
def round_to_format(x: Array) -> Array:
    """Round to the tensor's format in the middle of a kernel: a 16-bit buffer."""
    return x


@replaceable
def stored(x: Array, source: Array) -> Array:  # noqa: ARG001 (if that is exact, the rounding is known)
    """Return what a 16-bit tensor holds after x was computed from a source in one operation."""
    return x


@replaceable
def rounded_once(x: Array, source: Array) -> Array:  # noqa: ARG001 (if that is exact, the rounding is known)
    """Return what one operation, or one number beside a source, is in the tensor's format.

    One operation on numbers of a format has one result in it: whatever processor computes it. A
    product that a sum may be fused with is none.
    """
    return x


@replaceable
def has_format(x: Array) -> bool:  # noqa: ARG001 (of plain numbers nothing is known)
    """Whether numbers are known to be rounded to a tensor's format."""
    return False


@replaceable
def weighed(x: Array, rows: Array, columns: Array, roundings: Array | int) -> Array:  # noqa: ARG001 (the bound depends on it)
    """Return ``rows x columns^T``, which a kernel adds up term after term.

    Each result takes so many roundings, those of the weights not counted.
    """
    return rows @ x @ np.swapaxes(columns, -1, -2)


@replaceable
def added_in_windows(
    like: Array, *, parts: Iterable[tuple[Any, Array]], shape: tuple[int, ...]
) -> Array:
    """Add arrays up, each in its window of one of some shape: of terms whose roundings count."""
    total = np.zeros_like(like, shape=shape)
    for window, part in parts:
        total[window] += part
    return total


@replaceable
def is_uncertain(x: Array) -> Array:
    """Return where a rounding error could make a number another one."""
    return np.zeros_like(x, dtype=bool)


@replaceable
def round_as_kernel(x: Array) -> Array:
    """Hold a number that came in double precision as the kernel computes."""
    return x


@replaceable
def enter_kernel(x: Array) -> Array:
    """Compute as one kernel does from here on: 16-bit formats in float32, until `leave_kernel`."""
    return x


@replaceable
def leave_kernel(x: Array) -> Array:
    """Store a kernel's result; from here on every step rounds to the format."""
    return x


@replaceable
def accumulate_in_format(x: Array) -> Array:
    """Store every partial result of products and sums in the tensor's format from here on."""
    return x


@replaceable
def added_in_turn(terms: Array) -> Array:
    """Add along the first axis, one after the other, and store each partial sum in 16 bits.

    There may be several stretches, each begun from 0, whose sums are added up in float32.
    """
    return np.sum(terms, axis=0)


@replaceable
def added_on_the_way(parts: Array) -> Array:
    """Add along the first axis, each part to what stands there already, in the tensor's format."""
    return np.sum(parts, axis=0)


@replaceable
def corrected_mean(x: Array, *, over: tuple[int, ...]) -> Array:
    """Return the mean over axes, which stay with length 1, as it is corrected number by number."""
    return mean_over(x, over)


def mean_over(x: Array, over: tuple[int, ...]) -> Array:
    """Return the mean over axes, which stay with length 1."""
    return np.sum(x, axis=over, keepdims=True) / math.prod(x.shape[axis] for axis in over)


@replaceable
def running_places(x: Array, *, extreme: np.ufunc, axis: int) -> Array:
    """Return where the extremes so far along an axis stand: the last of those that tie, or NaN."""
    is_new = np.equal(x, extreme.accumulate(x, axis=axis)) | np.isnan(x)
    steps = np.arange(x.shape[axis], like=x).reshape(
        [-1 if n == axis % x.ndim else 1 for n in range(x.ndim)]
    )
    return np.maximum.accumulate(np.where(is_new, steps, 0), axis=axis)


@replaceable
def scattered(numbers: Array, places: Array, size: int) -> Array:
    """Add numbers up at their places, in float32 until the end."""
    return np.bincount(places, weights=numbers, minlength=size)


@replaceable
def added_rows(rows: Array, taken: Array, places: Array, size: int) -> Array:
    """Add the rows that are taken up at their places: ``y[places[i]] += rows[taken[i]]``."""
    if not isinstance(rows, np.ndarray):
        # SciPy's matrices are the host's.
        flat = np.reshape(rows[np.asarray(taken, like=rows)], (len(taken), -1))
        columns = np.arange(flat.shape[1], like=rows)
        into = np.ravel(np.asarray(places, like=rows)[:, None] * flat.shape[1] + columns)
        total = functools.partial(scattered, places=into, size=size * flat.shape[1])
        flat = np.ravel(flat)
        whole = paired(total(flat.real), total(flat.imag)) if is_complex(flat) else total(flat)
        return np.reshape(whole, (size, *rows.shape[1:]))
    named = (np.ones(len(taken)), (places, taken))
    chosen = scipy.sparse.csr_array(named, shape=(size, rows.shape[0]))
    return np.reshape(chosen @ np.reshape(rows, (rows.shape[0], -1)), (size, *rows.shape[1:]))


@replaceable
def ignore_error(x: Array) -> Array:
    """Return the numbers alone: a shift whose error does not matter, as it is taken away again."""
    return x


@replaceable
def require_certain(x: Array) -> Array:
    """Return whole numbers, none of which a rounding error could make another one."""
    return x


def is_complex(x: Array) -> bool:
    """Whether an array, or a number, is complex."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, complex) if dtype is None else dtype.kind == "c"


@replaceable
def paired(re: Array, im: Array) -> Array:
    """Put complex numbers together from their parts."""
    shape = np.broadcast_shapes(np.shape(re), np.shape(im))
    z = np.empty_like(re, dtype=np.complex128, shape=shape)
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


@replaceable
def continue_from(y: Array, start: Array, terms: int) -> Array:  # noqa: ARG001 (the bound depends on it)
    """Add to a sum of so many products what it may have started from.

    A kernel may put the bias into its accumulator first: then every partial sum holds it, and is
    rounded with it. The sum is nobody else's, and what it starts from is added in place.
    """
    shape = np.shape(start)
    if isinstance(y, np.ndarray) and y.ndim and y.shape == np.broadcast_shapes(y.shape, shape):
        return np.add(y, start, out=y)
    return y + start


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
def airy_ai(x: Array) -> Array:
    """Return the one of Airy's functions that decays."""
    # SciPy gives NaN where it is less than the smallest number.
    return np.where(x > 110, 0.0, scipy.special.airy(np.minimum(x, 110))[0])


@replaceable
def running_logsumexp(x: Array, axis: int) -> Array:
    """Return the logarithm of the running sum of e^x, number after number."""
    return np.logaddexp.accumulate(x, axis=axis)
