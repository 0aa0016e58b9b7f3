"""The words of the printed formulas, each written a second time: by loops, or by another library.

Nothing here may come from the rules.
"""

from __future__ import annotations

import cmath
import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import stats

from rules.words_alignment import ALIGNMENTS
from rules.words_attention import ATTENTION
from rules.words_complex import COMPLEX
from rules.words_convolution import CONVOLUTION
from rules.words_create import CREATE
from rules.words_decompositions import DECOMPOSITIONS
from rules.words_grids import GRIDS
from rules.words_grouped import GROUPED
from rules.words_losses import LOSSES
from rules.words_matrix_functions import MATRIX_FUNCTIONS
from rules.words_moving import MOVING
from rules.words_normalisation import NORMALISATION
from rules.words_norms import NORMS
from rules.words_optimizers import OPTIMIZERS
from rules.words_ordering import ORDERING
from rules.words_placing import PLACING
from rules.words_pooling import POOLING
from rules.words_products import PRODUCTS
from rules.words_recurrent import RECURRENT
from rules.words_resampling import RESAMPLING
from rules.words_scalars import SCALARS
from rules.words_solving import SOLVING
from rules.words_special import SPECIAL
from rules.words_statistics import STATISTICS
from rules.words_twice import TWICE
from rules.words_vision import VISION

if TYPE_CHECKING:
    from collections.abc import Callable

Plain: TypeAlias = Any
Sizes: TypeAlias = tuple[int, ...]


def _each(
    function: Callable[[float], float], of_complex: Callable[[complex], complex] | None = None
) -> Callable[[Plain], Plain]:
    """Apply a function of Python's math module to each number; to a complex one, of cmath."""

    def apply(x: Plain) -> Plain:
        if of_complex is not None and np.iscomplexobj(x):
            return np.array([of_complex(z) for z in np.ravel(x)]).reshape(np.shape(x))
        numbers = [function(float(number)) for number in np.ravel(x)]
        return np.array(numbers, dtype=np.float64).reshape(np.shape(x))

    return apply


def _sign(x: float) -> float:
    return 0.0 if x == 0 else math.copysign(1.0, x)


def where(condition: Plain, yes: Plain, no: Plain) -> Plain:
    """One number from each place, by Python's own conditional."""
    rows = np.broadcast_arrays(condition, yes, no)
    chosen = [a if c else b for c, a, b in zip(*map(np.ravel, rows), strict=True)]
    return np.array(chosen, dtype=np.result_type(yes, no, np.float64)).reshape(rows[0].shape)


# Shapes.


def shape(x: Plain) -> Sizes:
    return np.shape(x)


def expand(x: Plain, size: Sizes) -> Plain:
    """Repeat x by copying; -1 keeps a length."""
    x = np.asarray(x)
    x = x.reshape((1,) * (len(size) - x.ndim) + x.shape)
    for axis, n in enumerate(size):
        x = x if n in (-1, x.shape[axis]) else np.concatenate([x] * n, axis=axis)
    return x


def reshape(x: Plain, size: Sizes) -> Plain:
    """Read the numbers off in order into the new shape."""
    size = tuple(size)
    if -1 in size:
        rest = math.prod(n for n in size if n != -1)
        size = tuple(x.size // rest if n == -1 else n for n in size)
    out = np.empty(size, x.dtype)
    for place, number in zip(np.ndindex(size), x.flat, strict=True):
        out[place] = number
    return out


def permute(x: Plain, dims: Sizes) -> Plain:
    """Axis i of the result is axis dims[i] of x."""
    out = np.empty([x.shape[d] for d in dims], x.dtype)
    for place in np.ndindex(out.shape):
        origin = [0] * x.ndim
        for axis, d in enumerate(dims):
            origin[d] = place[axis]
        out[place] = x[tuple(origin)]
    return out


def unpermute(g: Plain, dims: Sizes) -> Plain:
    """What permute makes g of: axis dims[i] of the result is axis i of g."""
    sizes = [0] * g.ndim
    for axis, d in enumerate(dims):
        sizes[d] = g.shape[axis]
    out = np.empty(sizes, g.dtype)
    for place in np.ndindex(g.shape):
        target = [0] * g.ndim
        for axis, d in enumerate(dims):
            target[d] = place[axis]
        out[tuple(target)] = g[place]
    return out


def swap(x: Plain, dim0: int, dim1: int) -> Plain:
    dims = list(range(x.ndim))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(x, tuple(dims))


def unsqueeze(x: Plain, dim: int) -> Plain:
    sizes = list(x.shape)
    sizes.insert(dim % (x.ndim + 1), 1)
    return reshape(x, tuple(sizes))


def squeeze(x: Plain, dim: int | Sizes | None) -> Plain:
    named = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    gone = {d % x.ndim for d in named} if x.ndim else set()
    return reshape(x, tuple(n for d, n in enumerate(x.shape) if d not in gone or n != 1))


# Parts.


def _rows(x: Plain, dim: int) -> Plain:
    return np.moveaxis(x, dim, 0)


def select(x: Plain, dim: int, index: int) -> Plain:
    return _rows(x, dim)[index]


def slice_(x: Plain, dim: int, start: int | None, end: int | None, step: int) -> Plain:
    return np.stack([_rows(x, dim)[i] for i in range(x.shape[dim])[start:end:step]], axis=dim)


def place(g: Plain, x: Plain, dim: int, *which: Any) -> Plain:
    """Zeros shaped as x, with g where an index, or a start, end and step, point along dim."""
    out = np.zeros(x.shape, g.dtype)
    if len(which) == 1:
        _rows(out, dim)[which[0]] = g
        return out
    start, end, step = which
    for row, i in zip(_rows(g, dim), range(x.shape[dim])[start:end:step], strict=True):
        _rows(out, dim)[i] = row
    return out


def _window(x: Plain, size: Sizes, stride: Sizes, offset: int | None) -> Plain:
    flat = np.ascontiguousarray(x).reshape(-1)[offset or 0 :]
    return np.lib.stride_tricks.as_strided(flat, size, [flat.itemsize * s for s in stride])


def as_strided(x: Plain, size: Sizes, stride: Sizes, offset: int | None) -> Plain:
    return _window(x, size, stride, offset).copy()


def unstride(g: Plain, x: Plain, size: Sizes, stride: Sizes, offset: int | None) -> Plain:
    """Zeros shaped as x, to which g is added through the strided window, one by one."""
    out = np.zeros(x.shape, g.dtype)
    window = _window(out, size, stride, offset)
    for at in np.ndindex(g.shape):
        window[at] += g[at]
    return out


# Sums.


def _axes(x: Plain, dim: int | Sizes | None) -> set[int]:
    if dim is None or dim == ():
        return set(range(x.ndim))
    return {d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim)}


def sum_(x: Plain, dim: int | Sizes | None, keepdim: bool) -> Plain:
    """Add what lies at the same place of the axes that stay."""
    over = _axes(x, dim)
    out = np.zeros([1 if d in over else n for d, n in enumerate(x.shape)], x.dtype)
    for at in np.ndindex(x.shape):
        out[tuple(0 if d in over else i for d, i in enumerate(at))] += x[at]
    kept = [n for d, n in enumerate(out.shape) if keepdim or d not in over]
    return out.reshape(kept)


def repeat(g: Plain, x: Plain, dim: int | Sizes | None, keepdim: bool) -> Plain:
    """Give every number that was summed the gradient of its sum."""
    over = _axes(x, dim)
    out = np.empty(x.shape, g.dtype)
    for at in np.ndindex(x.shape):
        out[at] = g[
            tuple(0 if d in over else i for d, i in enumerate(at) if keepdim or d not in over)
        ]
    return out


def count(x: Plain, dim: int | Sizes | None) -> int:
    return math.prod(x.shape[axis] for axis in _axes(x, dim))


def reduce(terms: Plain, reduction: int) -> Plain:
    if reduction == 0:
        return terms
    return np.asarray(math.fsum(np.ravel(terms)) / share(terms, reduction))


def share(terms: Plain, reduction: int) -> int:
    """The number by which a reduction divides: that of the terms for a mean, else 1."""
    return math.prod(np.shape(terms)) if reduction == 1 else 1


def half(x: Plain, dim: int, which: int) -> Plain:
    """The first or the second half along an axis."""
    n = x.shape[dim] // 2
    return slice_(x, dim, which * n, (which + 1) * n, 1)


def join(a: Plain, b: Plain, dim: int) -> Plain:
    """What half takes apart."""
    return np.stack([*_rows(a, dim), *_rows(b, dim)], axis=dim)


def outer(a: Plain, b: Plain) -> Plain:
    return np.array([[p * q for q in b] for p in a])


# The normal distribution, and the tanh that stands for it.


def Phi(x: Plain, approximate: str) -> Plain:
    if approximate == "none":
        return _each(lambda z: math.erfc(-z / math.sqrt(2)) / 2)(x)
    return _each(lambda z: (1 + math.tanh(_inner(z))) / 2)(x)


def phi(x: Plain, approximate: str) -> Plain:
    """The derivative of Phi."""
    if approximate == "none":
        return stats.norm.pdf(x)
    slope = _each(lambda z: math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2))(x)
    return slope * _each(lambda z: 1 / (2 * math.cosh(_inner(z)) ** 2))(x)


def _inner(z: float) -> float:
    return math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)


_OWN: dict[str, Any] = {
    "exp": _each(math.exp, cmath.exp),
    "log": _each(math.log, cmath.log),
    "sqrt": _each(math.sqrt, cmath.sqrt),
    "sin": _each(math.sin, cmath.sin),
    "cos": _each(math.cos, cmath.cos),
    "tanh": _each(math.tanh, cmath.tanh),
    "log1p": _each(math.log1p, lambda z: cmath.log(1 + z)),
    "erf": _each(math.erf),
    "minimum": lambda a, b: where(a < b, a, b),
    "pi": math.pi,
    "abs": _each(math.fabs, abs),
    "sign": _each(_sign, lambda z: z / abs(z)),
    "zeros": lambda size: np.full(size, 0.0),
    "ones": lambda size: np.full(size, 1.0),
    "sum": sum_,
    "slice": slice_,
} | {
    word.__name__: word
    for word in (
        where, shape, expand, reshape, permute, unpermute, swap, unsqueeze, squeeze, select, place,
        as_strided, unstride, repeat, count, reduce, share, outer, half, join, Phi, phi,
    )
}  # fmt: skip


def _gathered(*families: dict[str, Any]) -> dict[str, Any]:
    """Put the words of all families into one table; none may mean two things."""
    words: dict[str, Any] = {}
    for family in families:
        again = words.keys() & family.keys()
        assert not again, f"defined twice: {sorted(again)}"
        words |= family
    return words


WORDS = _gathered(
    _OWN,
    ALIGNMENTS,
    ATTENTION,
    COMPLEX,
    CONVOLUTION,
    CREATE,
    DECOMPOSITIONS,
    GRIDS,
    GROUPED,
    LOSSES,
    MATRIX_FUNCTIONS,
    MOVING,
    NORMALISATION,
    NORMS,
    OPTIMIZERS,
    ORDERING,
    PLACING,
    POOLING,
    PRODUCTS,
    RECURRENT,
    RESAMPLING,
    SCALARS,
    SOLVING,
    SPECIAL,
    STATISTICS,
    TWICE,
    VISION,
)
